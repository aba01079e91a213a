# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""How an object of the API is named in results: on the control machine and on the host alike."""

from __future__ import annotations


def key_of(item):
    """Return kind/namespace/name, or kind/name of an object without a namespace."""
    meta = item.get('metadata') or {}
    parts = [item.get('kind', '?').lower(), meta.get('namespace'), meta.get('name', '?')]
    return '/'.join(part for part in parts if part)


def items_of(document):
    """Return the objects of a document: its items if it is a List, else itself."""
    return document.get('items', []) if document.get('kind') == 'List' else [document]


def keys_of(document):
    """Return the keys of a document's objects."""
    return [key_of(item) for item in items_of(document)]
