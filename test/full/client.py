"""A client of the cluster as its users are: it writes and reads a ConfigMap every 200 ms through this host's kube-nginx,
and asks a Service as often. On SIGTERM it writes what it saw to the file named in its settings.

A write is lost when it was acknowledged and a later read shows an older value.
"""

import http.client
import json
import signal
import ssl
import sys
import threading
import time

PERIOD = 0.2
settings = json.load(open(sys.argv[1]))
stopping = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopping.set())


class Tally:
    """Successes and failures of one kind of request, and the longest time without a success."""

    def __init__(self):
        self.done = self.failed = 0
        self.last = time.monotonic()
        self.gap = 0.0
        self.errors = {}

    def success(self):
        self.done += 1
        now = time.monotonic()
        self.gap = max(self.gap, now - self.last)
        self.last = now

    def failure(self, error):
        self.failed += 1
        text = str(error)[:160]
        self.errors[text] = self.errors.get(text, 0) + 1

    def end(self):
        self.gap = max(self.gap, time.monotonic() - self.last)


class Api:
    """One kept-alive connection to the API; after an error, a new one that reads the CA anew."""

    def __init__(self):
        self.connection = None

    def call(self, method, body=None):
        if self.connection is None:
            context = ssl.create_default_context(cafile=settings['ca'])
            self.connection = http.client.HTTPSConnection('127.0.0.1', settings['port'], timeout=5, context=context)
        headers = {'Authorization': 'Bearer ' + settings['token'], 'Content-Type': 'application/merge-patch+json'}
        path = '/api/v1/namespaces/%s/configmaps/%s' % (settings['namespace'], settings['configmap'])
        try:
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise OSError('%s answers %d: %s' % (method, answer.status, text[:120].decode('utf-8', 'replace')))
            return json.loads(text)
        except (OSError, http.client.HTTPException, ValueError):
            self.connection.close()
            self.connection = None
            raise


def ask_service(tally):
    while not stopping.wait(PERIOD):
        try:
            connection = http.client.HTTPConnection(settings['service'], 80, timeout=2)
            connection.request('GET', '/')
            if connection.getresponse().status != 200:
                raise OSError('not 200')
            tally.success()
        except (OSError, http.client.HTTPException) as error:
            tally.failure(error)
        finally:
            connection.close()


writes, reads, service = Tally(), Tally(), Tally()
thread = threading.Thread(target=ask_service, args=(service,))
thread.start()
api, acknowledged, number, lost = Api(), 0, 0, []
while not stopping.wait(PERIOD):
    number += 1
    try:
        api.call('PATCH', json.dumps({'data': {'number': str(number)}}))
        acknowledged = number
        writes.success()
    except (OSError, http.client.HTTPException, ValueError) as error:
        writes.failure(error)
    try:
        seen = int(api.call('GET')['data']['number'])
        reads.success()
        if seen < acknowledged:
            lost.append({'acknowledged': acknowledged, 'seen': seen})
    except (OSError, http.client.HTTPException, ValueError) as error:
        reads.failure(error)
thread.join()
result = {'lost': lost}
for name, tally in (('writes', writes), ('reads', reads), ('service', service)):
    tally.end()
    result[name] = {
        'done': tally.done, 'failed': tally.failed, 'longestGapMs': round(tally.gap * 1000), 'errors': tally.errors
    }  # fmt: skip
with open(settings['result'], 'w') as file:
    json.dump(result, file)
