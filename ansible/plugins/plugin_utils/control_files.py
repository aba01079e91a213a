# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Reading files of the control machine, which may be encrypted with ansible-vault."""

from __future__ import annotations

import errno

from ansible.errors import AnsibleError, AnsibleFileNotFound


def read_file(loader, path):
    """Return the bytes of a file, decrypted. Errors: OSError, also where the vault's password is not there or wrong."""
    try:
        real = loader.get_real_file(path)
    except AnsibleFileNotFound:
        raise OSError(errno.ENOENT, 'there is no such file') from None
    except AnsibleError as error:
        raise OSError(errno.EACCES, str(error)) from None
    try:
        with open(real, 'rb') as handle:
            return handle.read()
    finally:
        loader.cleanup_tmp_file(real)
