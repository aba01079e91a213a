import json
import unittest

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.modules import node_taints

OURS = {'key': 'example.com/gpu', 'value': 'yes', 'effect': 'NoSchedule'}
FOREIGN = {'key': 'node.kubernetes.io/unreachable', 'effect': 'NoExecute', 'timeAdded': '2026-01-01T00:00:00Z'}


def node(taints, annotation=None):
    meta = {'name': 'n', 'resourceVersion': '7'}
    if annotation is not None:
        meta['annotations'] = {node_taints.ANNOTATION: json.dumps(annotation)}
    return {'metadata': meta, 'spec': {'taints': taints} if taints else {}}


def patch(taints, annotation):
    text = None if annotation is None else json.dumps(annotation)
    return {
        'metadata': {'resourceVersion': '7', 'annotations': {node_taints.ANNOTATION: text}},
        'spec': {'taints': taints},
    }


class Plan(unittest.TestCase):
    def test_nothing_to_do(self):
        self.assertIsNone(node_taints.plan(node([]), []))
        self.assertIsNone(node_taints.plan(node([FOREIGN]), []))
        self.assertIsNone(node_taints.plan(node([FOREIGN, OURS], ['example.com/gpu:NoSchedule']), [OURS]))

    def test_one_of_the_registration_becomes_ours(self):
        self.assertEqual(node_taints.plan(node([OURS]), [OURS]), patch([OURS], ['example.com/gpu:NoSchedule']))

    def test_added_beside_those_of_others(self):
        self.assertEqual(
            node_taints.plan(node([FOREIGN]), [OURS]), patch([FOREIGN, OURS], ['example.com/gpu:NoSchedule'])
        )

    def test_another_value(self):
        wanted = dict(OURS, value='no')
        self.assertEqual(
            node_taints.plan(node([OURS, FOREIGN], ['example.com/gpu:NoSchedule']), [wanted]),
            patch([wanted, FOREIGN], ['example.com/gpu:NoSchedule']),
        )

    def test_dropped(self):
        self.assertEqual(
            node_taints.plan(node([OURS, FOREIGN], ['example.com/gpu:NoSchedule']), []), patch([FOREIGN], None)
        )
        self.assertEqual(node_taints.plan(node([OURS], ['example.com/gpu:NoSchedule']), []), patch(None, None))

    def test_a_foreign_one_of_the_same_key_stays(self):
        other = dict(OURS, effect='NoExecute')
        self.assertEqual(
            node_taints.plan(node([OURS, other], ['example.com/gpu:NoSchedule']), []), patch([other], None)
        )

    def test_an_annotation_that_is_broken(self):
        self.assertEqual(node_taints.ours('{'), [])
        self.assertEqual(node_taints.ours('{"a": 1}'), [])


if __name__ == '__main__':
    unittest.main()
