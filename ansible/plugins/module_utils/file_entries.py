# Copyright the k8s-ans authors
# SPDX-License-Identifier: Apache-2.0
"""Pure parts of the files module: what an entry may say, blocks in files, and diffs that keep secrets.

Runs on the control machine (checking of entries) and on the host (blocks, diffs); no side effects.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re

STATES = ('file', 'absent', 'directory', 'link')
SOURCES = ('template', 'src', 'content', 'block')
KEYS = frozenset(SOURCES).union(
    ('dest', 'state', 'target', 'mode', 'owner', 'group', 'validate', 'secret', 'parents', 'vars'),
    ('marker_begin', 'marker_end', 'recursive'),
)
DEFAULT_KEYS = frozenset(('mode', 'owner', 'group', 'secret', 'parents'))
BOOLEANS = ('secret', 'parents', 'recursive')

MARKER_BEGIN = '# BEGIN k8s-ans'
MARKER_END = '# END k8s-ans'

# A diff larger than this is told by size and digest only.
MAX_DIFF_BYTES = 64 * 1024

# Content that is masked even where nobody declared it a secret: private keys, kubeconfigs with credentials,
# an EncryptionConfiguration.
_SECRET_CONTENT = re.compile(
    rb'PRIVATE KEY-----|client-key-data:|^\s*token:\s*\S|^\s*(- )?secret:\s*\S|kind:\s*EncryptionConfiguration',
    re.MULTILINE,
)

_TRUE = ('true', 'yes', 'on', '1')
_FALSE = ('false', 'no', 'off', '0', '')


class EntryError(ValueError):
    """An entry of `files` that cannot be meant; the message names the entry and says how to mend it."""


def to_bool(value, where):
    """Return `value` as a boolean; Jinja may have made it a string. EntryError for anything else."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise EntryError('%s: expected true or false, got %r' % (where, value))


def parse_mode(value, where):
    """Return the permission bits of a quoted octal string such as '0644'; EntryError for anything else.

    A YAML number is refused: 0644 unquoted is 420 decimal, and 644 unquoted is not octal at all.
    """
    if isinstance(value, str) and re.match(r'^0?[0-7]{3,4}$', value):
        return int(value, 8)
    raise EntryError("%s: mode must be a quoted octal string such as '0644', got %r" % (where, value))


def _nearest(key):
    found = difflib.get_close_matches(key, sorted(KEYS), n=1)
    return ' (did you mean %s?)' % found[0] if found else ''


def normalize(raw, defaults, index):
    """Return one entry with its defaults filled in and every value checked.

    raw: the entry as the task gives it; defaults: the task's `defaults`; index: its place in the list.
    Errors: EntryError, naming the entry by index and dest.
    """
    if not isinstance(raw, dict):
        raise EntryError('files[%d]: expected a dictionary with dest, got %s' % (index, type(raw).__name__))
    dest = raw.get('dest')
    where = 'files[%d]%s' % (index, ' (%s)' % dest if dest else '')
    unknown = sorted(set(str(key) for key in raw) - KEYS)
    if unknown:
        raise EntryError('%s: unknown key %s%s' % (where, unknown[0], _nearest(unknown[0])))
    if not isinstance(dest, str) or not dest.startswith('/') or '\0' in dest:
        raise EntryError('%s: dest must be an absolute path on the host' % where)
    state = str(raw.get('state') or 'file')
    if state not in STATES:
        raise EntryError('%s: state must be one of %s, got %s' % (where, ', '.join(STATES), state))
    given = [key for key in SOURCES if raw.get(key) is not None]
    if state == 'file' and len(given) != 1:
        raise EntryError('%s: give exactly one of %s (got %s)' % (where, ', '.join(SOURCES), ', '.join(given) or 'none'))
    if state != 'file' and given and state != 'absent':
        raise EntryError('%s: %s does not go with state: %s' % (where, given[0], state))
    if state == 'link' and not raw.get('target'):
        raise EntryError('%s: state: link needs target' % where)

    entry = {'dest': os.path.normpath(str(dest)), 'state': state}
    for key in BOOLEANS:
        value = raw.get(key)
        if value is None and key in DEFAULT_KEYS:
            value = defaults.get(key)
        entry[key] = to_bool(value, '%s.%s' % (where, key)) if value is not None else False
    is_block = given == ['block']
    # A block's file is somebody else's (as /etc/hosts): its mode and owner stay unless the entry itself names them.
    inherited = {} if is_block else defaults
    entry['owner'] = _name(raw.get('owner', inherited.get('owner')), None if is_block else 'root')
    entry['group'] = _name(raw.get('group', inherited.get('group')), None if is_block else 'root')
    mode = raw.get('mode', inherited.get('mode'))
    if state == 'directory' and raw.get('mode') is None:
        # The defaults' mode is meant for files; a directory without its own is 0755.
        mode = '0755'
    if state in ('file', 'directory'):
        if mode is None and not is_block:
            raise EntryError("%s: mode is required, as a quoted octal string such as '0644'" % where)
        entry['mode'] = None if mode is None else parse_mode(mode, where)
    validate = raw.get('validate')
    if validate is not None and validate != '':
        if '%s' not in str(validate):
            raise EntryError('%s: validate must contain %%s, the place of the file to be checked' % where)
        entry['validate'] = str(validate)
    if state == 'link':
        entry['target'] = str(raw['target'])
    if is_block:
        entry['marker_begin'] = str(raw.get('marker_begin') or MARKER_BEGIN)
        entry['marker_end'] = str(raw.get('marker_end') or MARKER_END)
        if entry['marker_begin'] == entry['marker_end']:
            raise EntryError('%s: marker_begin and marker_end must differ' % where)
    return entry


def _name(value, fallback):
    return fallback if value is None or value == '' else str(value)


def put_block(text, block, begin, end):
    """Return `text` with the managed block between the lines `begin` and `end`; the rest stays byte for byte.

    Without such lines the block goes to the end. An empty block takes the block and its markers away. A begin without
    an end (a file cut by somebody) counts as a block of that one line.
    """
    lines = text.splitlines(True)
    kept, place, inside = [], None, None
    for line in lines:
        bare = line.rstrip('\r\n')
        if inside is None and bare == begin:
            inside = [line]
            if place is None:
                place = len(kept)
        elif inside is not None and bare == end:
            inside = None
        elif inside is not None:
            inside.append(line)
        else:
            kept.append(line)
    if inside is not None:
        kept[len(kept):] = inside[1:]
    if not block.strip():
        return ''.join(kept)
    if place is None:
        place = len(kept)
    if place == len(kept) and kept and not kept[-1].endswith('\n'):
        kept[-1] += '\n'
    body = block if block.endswith('\n') else block + '\n'
    return ''.join(kept[:place]) + begin + '\n' + body + end + '\n' + ''.join(kept[place:])


def digest(content):
    """Return the sha256 of `content` (bytes) in hex."""
    return hashlib.sha256(content).hexdigest()


def is_secret(content):
    """Tell whether `content` (bytes or None) holds something that must not be shown, whatever the entry says."""
    return content is not None and _SECRET_CONTENT.search(content) is not None


def shown(content, secret):
    """Return the text of `content` (bytes or None) for a diff: masked if secret, described if binary or large."""
    if content is None:
        return ''
    if secret:
        return '<secret, sha256 %s…>\n' % digest(content)[:12]
    if len(content) > MAX_DIFF_BYTES or b'\0' in content:
        return '<%d bytes, sha256 %s…>\n' % (len(content), digest(content)[:12])
    return content.decode('utf-8', 'replace')


def make_diff(dest, before, after, before_attributes, after_attributes, secret):
    """Return Ansible's diff of one file: content (masked where secret) and, where they differ, mode and owner.

    before, after: bytes or None (no file); *_attributes: text such as 'root:root 0644', or ''.
    """
    secret = secret or is_secret(before) or is_secret(after)
    heads = [dest, dest]
    if before_attributes != after_attributes:
        heads = ['%s (%s)' % (dest, text or 'absent') for text in (before_attributes, after_attributes)]
    result = {'before_header': heads[0], 'after_header': heads[1]}
    if before == after:
        result['before'] = (before_attributes + '\n') if before_attributes else ''
        result['after'] = (after_attributes + '\n') if after_attributes else ''
    else:
        result['before'] = shown(before, secret)
        result['after'] = shown(after, secret)
    return result
