import { defineConfig } from 'vitest/config';

/** Tests that share one lab cluster and two cores: one after the other. */
const onLab = {
  fileParallelism: false,
  maxWorkers: 1,
  sequence: { concurrent: false },
  // The longest, eleven deployments of five hosts, takes ten minutes where something else has the cores as well.
  testTimeout: 1_200_000,
  hookTimeout: 1_800_000,
};

export default defineConfig({
  test: {
    projects: [
      // On a busy machine a test of keys takes longer than vitest's five seconds.
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 60_000 } },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          ...onLab,
        },
      },
      {
        test: {
          name: 'full',
          include: ['test/full/**/*.test.ts'],
          env: { K8S_ANS_TEST_LAB: 'full', K8S_ANS_TEST_SUBNET: '172.24.12.0/24' },
          ...onLab,
          // An operation on the whole cluster, one host after another.
          testTimeout: 2_400_000,
        },
      },
    ],
  },
});
