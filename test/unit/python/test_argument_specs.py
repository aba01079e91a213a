"""What each role refuses: its argument specs, with ansible-core's own validator, against wrong types and unknown choices."""

import glob
import os
import unittest

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from plugins_path import ROOT

# A value that is certainly not of the type. Text of any kind is taken for a str or a path.
WRONG = {'bool': 'perhaps', 'int': 'many', 'float': 'much', 'dict': 'plain words', 'list': {'a': 1}}
RIGHT = {'bool': True, 'int': 1, 'dict': {}, 'list': [], 'str': 'text', 'path': '/path'}


def load(*names):
    with open(os.path.join(ROOT, 'roles', *names)) as handle:
        return yaml.safe_load(handle)


def roles():
    return sorted(os.path.basename(os.path.dirname(path)) for path in glob.glob(os.path.join(ROOT, 'roles', '*', '')))


def entries():
    """(role, entry point, options) of all."""
    for role in roles():
        for name, spec in load(role, 'meta', 'argument_specs.yml')['argument_specs'].items():
            yield role, name, spec['options']


def value(option):
    """A value that the option takes."""
    return option['choices'][0] if 'choices' in option else RIGHT[option['type']]


class ArgumentSpecs(unittest.TestCase):
    def errors(self, options, changes, without=None):
        given = {name: value(option) for name, option in options.items() if name != without}
        given.update(changes)
        result = ArgumentSpecValidator(options).validate(given)
        return result.error_messages

    def test_a_wrong_type_is_refused(self):
        for role, entry, options in entries():
            for name, option in options.items():
                with self.subTest(role=role, entry=entry, option=name):
                    self.assertEqual(self.errors(options, {}), [])
                    if option['type'] in WRONG:
                        self.assertRegex(' '.join(self.errors(options, {name: WRONG[option['type']]})), name)

    def test_an_unknown_choice_is_refused(self):
        found = 0
        for role, entry, options in entries():
            for name in (name for name, option in options.items() if 'choices' in option):
                found += 1
                with self.subTest(role=role, entry=entry, option=name):
                    said = ' '.join(self.errors(options, {name: 'something-else'}))
                    self.assertRegex(said, 'value of %s must be one of: .*, got: something-else' % name)
        self.assertGreater(found, 8)

    def test_what_is_required_must_be_there(self):
        for role, entry, options in entries():
            for name in (name for name, option in options.items() if option.get('required')):
                with self.subTest(role=role, entry=entry, option=name):
                    self.assertEqual(self.errors(options, {}, without=name), ['missing required arguments: %s' % name])

    def test_all_is_described_and_lists_say_of_what(self):
        for role, entry, options in entries():
            for name, option in options.items():
                with self.subTest(role=role, entry=entry, option=name):
                    self.assertRegex(option['description'], r'\w.*\.$')
                    if option['type'] == 'list':
                        self.assertIn('elements', option)

    def test_defaults_and_specs_name_the_same_variables(self):
        shared = set(load('k8s', 'defaults', 'main.yml'))
        for role in roles():
            with self.subTest(role=role):
                specs = load(role, 'meta', 'argument_specs.yml')['argument_specs'].values()
                options = {name: option for spec in specs for name, option in spec['options'].items()}
                defaults = load(role, 'defaults', 'main.yml') or {}
                self.assertEqual(set(defaults) - set(options), set(), 'not in the argument specs')
                optional = {name for name, option in options.items() if not option.get('required')}
                # Those without a default are told apart by being defined at all.
                absent = optional - set(defaults) - {'k8s_trust_dir', 'k8s_api_external_endpoint'}
                self.assertEqual(absent, set(), 'without a default')
                for name in set(options) - set(defaults):
                    self.assertTrue(
                        name.startswith(role + '_') or name in shared or options[name].get('required') or name.startswith('k8s_')
                    )

    def test_defaults_are_what_the_specs_say(self):
        for role in roles():
            for entry in load(role, 'meta', 'argument_specs.yml')['argument_specs'].values():
                defaults = load(role, 'defaults', 'main.yml') or {}
                for name, option in entry['options'].items():
                    given = defaults.get(name)
                    # What is computed is not known before it is.
                    if given is None or (isinstance(given, str) and '{{' in given) or (isinstance(given, str) and '{%' in given):
                        continue
                    with self.subTest(role=role, option=name):
                        self.assertEqual(ArgumentSpecValidator({name: option}).validate({name: given}).error_messages, [])


if __name__ == '__main__':
    unittest.main()
