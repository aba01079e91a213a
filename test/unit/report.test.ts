/** The run report: the model, the summary, and the HTML page in a real browser. */
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Browser, chromium } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseEvent, parseEvents } from '../../ts/playbook/events.js';
import { formatBytes, formatDuration } from '../../ts/report/format.js';
import { renderHtml } from '../../ts/report/html.js';
import { buildReport } from '../../ts/report/model.js';
import { formatSummary, formatTotals } from '../../ts/report/summary.js';
import { deployEvents, reportInput, START } from './events-fixture.js';

const JOURNAL = ['etcd[1]: listening on 10.0.0.2:2380', 'etcd[1]: bind: address already in use'];
const failed = () =>
  deployEvents({
    failAt: 'Start etcd',
    failure: { msg: 'etcd.service failed: exit-code', unit: 'etcd.service', journal: JOURNAL },
  });

describe('events', () => {
  test('lines are parsed, and what is no event is left out', () => {
    const events = deployEvents();
    const text = events.map((event) => JSON.stringify(event)).join('\n');
    expect(parseEvents(`${text}\nno json\n{"event":"new kind"}\n{"event":"result","ti`)).toEqual(events);
    expect(parseEvent('{"event":"no_hosts","time":1,"more":true}')).toEqual({ event: 'no_hosts', time: 1 });
  });
});

describe('model', () => {
  test('a deploy that went well', () => {
    const report = buildReport(reportInput(deployEvents()));
    expect(report).toMatchObject({ version: 1, outcome: 'done', versions: { ansible: '2.19.14' }, failures: [] });
    expect(report.phases.map(({ name, where }) => `${where} ${name}`)).toEqual([
      ...['control inventory', 'control certificates', 'control binaries'],
      ...['hostprep', 'artifacts', 'etcd', 'runtime', 'masters', 'nodes', 'addons', 'check'].map(
        (name) => `hosts ${name}`,
      ),
    ]);
    for (const [index, phase] of report.phases.filter(({ where }) => where === 'hosts').entries()) {
      expect(phase.end).toBeGreaterThan(phase.start);
      const next = report.phases.filter(({ where }) => where === 'hosts')[index + 1];
      if (next) expect(next.start).toBe(phase.end);
    }
    expect(report.hosts.map((host) => host.counts.evaluated)).toEqual([22, 20, 20, 13, 13]);
    const counts = report.hosts.map((host) => host.counts);
    expect(counts.reduce((sum, host) => sum + host.changed, 0)).toBe(report.totals.changed);
    expect(report.totals).toMatchObject({ evaluated: 88, failed: 0, skipped: 0, bytesSent: 13 * 61_000_000 });
    expect(report.hosts[0]?.phases.map((phase) => phase.name)).toContain('etcd');
    expect(report.hosts[4]?.phases.map((phase) => phase.name)).not.toContain('etcd');
    const durations = report.slowestTasks.map((task) => task.duration);
    expect(durations).toEqual([...durations].sort((one, other) => other - one));
  });

  test('a failure has host, task, cause, journal and the next command', () => {
    const report = buildReport(reportInput(failed(), { outcome: 'failed' }));
    expect(report.failures).toEqual([
      expect.objectContaining({
        host: 'k8smaster02',
        phase: 'etcd',
        task: 'Start etcd',
        status: 'failed',
        cause: 'etcd.service failed: exit-code',
        journal: JOURNAL,
        next: 'On k8smaster02: journalctl -u etcd.service -n 100',
      }),
    ]);
    expect(report.phases.find((phase) => phase.name === 'etcd')?.status).toBe('failed');
    const summary = formatSummary(report, false);
    expect(summary).toContain('failed: k8smaster02  etcd: Start etcd');
    expect(summary).toContain('address already in use');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: no colour was asked for
    expect(summary).not.toMatch(/\x1b/);
  });

  test('what waits for its image is told, and is no failure', () => {
    const waiting = 'headlamp/headlamp waits for its image ghcr.io/headlamp-k8s/headlamp:v0.45.0';
    const events = deployEvents();
    const last = events.findLastIndex((event) => event.event === 'result');
    const told = events.map((event, index) => (index === last ? { ...event, waiting: [waiting] } : event));
    const report = buildReport(reportInput(told as typeof events));
    expect(report).toMatchObject({ outcome: 'done', failures: [], waiting: [waiting] });
    expect(formatSummary(report, false)).toContain(`waiting: ${waiting}`);
    expect(renderHtml(report)).toContain('What waits for its image');
    expect(renderHtml(buildReport(reportInput(events)))).not.toContain('What waits for its image');
  });

  test('an interrupted run ends where its events end', () => {
    const events = deployEvents().slice(0, 40);
    const report = buildReport(reportInput(events, { outcome: 'interrupted', end: START + 60_000 }));
    expect(report.phases.at(-1)).toMatchObject({ status: 'running', end: START + 60_000 });
  });

  test('a run without events', () => {
    const report = buildReport(reportInput([], { outcome: 'error', end: START + 5 }));
    expect(report).toMatchObject({ phases: [], hosts: [], duration: 5 });
    expect(renderHtml(report)).toContain('No task has run.');
    expect(formatTotals(report)).toBe('0.0 s, 0 hosts, 0 changes');
  });

  test('numbers as people read them', () => {
    expect([40, 1234, 59_960, 99_949, 185_000].map(formatDuration)).toEqual([
      '0.0 s',
      '1.2 s',
      '60.0 s',
      '99.9 s',
      '3 min 05 s',
    ]);
    expect([0, 1023, 1536, 61_000_000].map(formatBytes)).toEqual(['0 B', '1023 B', '1.5 KiB', '58.2 MiB']);
  });
});

// Debian's browser; playwright's own cannot be had everywhere.
const browserPath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((file) =>
  existsSync(file),
);

describe('the page in a browser', () => {
  let browser: Browser;
  let folder: string;
  beforeAll(async () => {
    if (browserPath === undefined) throw new Error('no Chromium was found: `k8s-ans doctor --fix --tests` installs it');
    folder = await mkdtemp(path.join(os.tmpdir(), 'k8s-ans-page-'));
    browser = await chromium.launch({
      executablePath: browserPath,
      args: [
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    });
  }, 60_000);
  afterAll(async () => {
    await browser?.close();
    if (folder) await rm(folder, { recursive: true, force: true });
  });

  /** Opens a report's page; whatever it complains about or asks the network for is in the lists. */
  async function open(html: string, colorScheme: 'light' | 'dark' = 'light') {
    const file = path.join(folder, `${Math.random()}.html`);
    await writeFile(file, html);
    const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, colorScheme });
    const complaints: string[] = [];
    const requests: string[] = [];
    page.on('console', (message) => complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('dialog', (dialog) => {
      complaints.push(`dialog ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on('request', (request) => requests.push(request.url()));
    await page.goto(pathToFileURL(file).href);
    return { page, complaints, requests };
  }

  async function keep(page: Awaited<ReturnType<typeof open>>['page'], name: string): Promise<void> {
    const target = process.env.K8S_ANS_SCREENSHOTS;
    if (target) await page.screenshot({ path: path.join(target, `${name}.png`), fullPage: true });
  }

  test('shows timeline, tasks and changes, and asks for nothing else', { timeout: 60_000 }, async () => {
    const { page, complaints, requests } = await open(renderHtml(buildReport(reportInput(deployEvents()))));
    await keep(page, 'done');
    expect(await page.title()).toBe('deploy guide: done');
    expect(await page.locator('#outcome').textContent()).toBe('done');
    expect(await page.locator('.timeline .name').allTextContents()).toEqual([
      'this machine',
      'k8smaster01',
      'k8smaster02',
      'k8smaster03',
      'k8snode01',
      'k8snode02',
    ]);
    expect(await page.locator('.task').count()).toBe(88);
    for (const box of await page
      .locator('.bar')
      .evaluateAll((bars) => bars.map((bar) => bar.getBoundingClientRect().width))) {
      expect(box).toBeGreaterThan(0);
    }
    // The page is as wide as the window, on a telephone too.
    for (const width of [1280, 390]) {
      await page.setViewportSize({ width, height: 900 });
      expect(await page.evaluate<number>('document.documentElement.scrollWidth')).toBeLessThanOrEqual(width);
    }
    await page.setViewportSize({ width: 1280, height: 900 });

    await page.locator('.legend button[data-phase="etcd"]').click();
    expect(await page.locator('.timeline.focus .bar.on').count()).toBe(3);
    await page.locator('.timeline svg').nth(1).locator('.task').first().hover({ force: true });
    expect(await page.locator('#tip').textContent()).toContain('hostprep on k8smaster01');
    await page.locator('#filter').fill('containerd and kube-nginx');
    expect(await page.locator('#changes .change:visible').count()).toBe(5);
    await page.locator('#theme').click();
    expect(await page.evaluate('document.documentElement.dataset.theme')).toBe('dark');
    expect(complaints).toEqual([]);
    expect(requests.filter((url) => !url.startsWith('file:'))).toEqual([]);
    expect(requests).toHaveLength(1);
    await page.close();
  });

  test('shows why a run failed, in the dark too', { timeout: 60_000 }, async () => {
    const error = { code: 'run-failed', message: 'the run failed on k8smaster02', next: 'Run `k8s-ans deploy` again.' };
    const { page, complaints } = await open(
      renderHtml(buildReport(reportInput(failed(), { outcome: 'failed', error }))),
      'dark',
    );
    await keep(page, 'failed-dark');
    expect(await page.locator('.failure').textContent()).toContain('address already in use');
    expect(await page.locator('.failure').textContent()).toContain('journalctl -u etcd.service');
    expect(await page.locator('#error').textContent()).toContain('k8s-ans deploy');
    expect(await page.evaluate('getComputedStyle(document.body).backgroundColor')).toBe('rgb(18, 21, 26)');
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('what a host said stays text', { timeout: 60_000 }, async () => {
    const evil = '<img src=x onerror=alert(1)></pre><script>alert(2)</script>"\'{{report.id}}`javascript:alert(3)';
    const events = deployEvents({
      failAt: 'Start etcd',
      failure: {
        msg: evil,
        stderr: evil,
        unit: evil,
        journal: [evil],
        module: evil,
        changed_files: [evil],
        restarted: [evil],
      },
    }).map((event) => {
      if (event.event === 'play_start') return { ...event, hosts: [...event.hosts, evil] };
      if (event.event === 'task_start') return { ...event, name: `${event.name} ${evil}`, path: evil, role: evil };
      return event.event === 'result' && event.host === 'k8snode02' ? { ...event, host: evil } : event;
    });
    const error = { code: 'x', message: evil, next: evil };
    const html = renderHtml(
      buildReport(reportInput(events, { cluster: evil, log: evil, id: evil, outcome: 'failed', error })),
    );
    expect(html).not.toContain('<img');
    expect(html.match(/<script/g)).toHaveLength(1);
    const { page, complaints, requests } = await open(html);
    expect(await page.locator('img').count()).toBe(0);
    expect(await page.locator('.failure pre').first().textContent()).toBe(evil);
    expect(complaints).toEqual([]);
    expect(requests).toHaveLength(1);
    await page.close();
  });
});
