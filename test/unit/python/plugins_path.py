"""Makes the working copy importable as the collection k8s_ans.cluster, without installing anything."""

import atexit
import os
import shutil
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def _link():
    base = tempfile.mkdtemp(prefix='k8s-ans-collection-')
    atexit.register(shutil.rmtree, base, True)
    folder = os.path.join(base, 'ansible_collections', 'k8s_ans', 'cluster')
    os.makedirs(folder)
    os.symlink(os.path.join(ROOT, 'ansible', 'plugins'), os.path.join(folder, 'plugins'))
    sys.path.insert(0, base)


_link()
