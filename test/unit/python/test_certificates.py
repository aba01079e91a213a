"""Which certificates are found in a file."""

import base64
import unittest

import plugins_path  # noqa: F401
from ansible_collections.k8s_ans.cluster.plugins.modules import certificates

ONE = '-----BEGIN CERTIFICATE-----\nMIIB\nAQID\n-----END CERTIFICATE-----\n'
TWO = '-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n'
KEY = '-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n'


class Found(unittest.TestCase):
    def test_of_a_bundle_all_and_no_key(self):
        self.assertEqual(certificates.pem_certificates(ONE + KEY + TWO), ['MIIBAQID', 'MIIC'])

    def test_of_a_kubeconfig_the_clients(self):
        data = base64.b64encode(TWO.encode()).decode()
        text = 'users:\n- user:\n    client-certificate-data: "%s"\n    client-key-data: c2VjcmV0\n' % data
        self.assertEqual(certificates.pem_certificates(text), ['MIIC'])

    def test_of_a_kubeconfig_that_names_a_file_nothing(self):
        self.assertEqual(certificates.pem_certificates('    client-certificate: /var/lib/kubelet/pki/x.pem\n'), [])


class Ports(unittest.TestCase):
    def test_a_silent_port_is_no_failure(self):
        said = certificates.ask({'name': 'x', 'address': '127.0.0.1', 'port': 1, 'file': '/x.crt'})
        self.assertEqual(said['der'], [])
        self.assertIn('refused', said['error'])


if __name__ == '__main__':
    unittest.main()
