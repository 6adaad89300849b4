// What a front end does with the JavaScript client: CRUD, patches, custom resources, and
// an informer that survives a restart of the server.
//
// Called with the folder of the client's package, the path of a kubeconfig, and a command
// that restarts the server. Exits 0 and prints `javascript client: N checks` when all
// hold; the first check that does not hold ends it with a stack trace.
import assert from 'node:assert/strict';
import {execFileSync} from 'node:child_process';
import {EventEmitter, once} from 'node:events';
import path from 'node:path';
import {pathToFileURL} from 'node:url';

const [modules, kubeconfig, ...restart] = process.argv.slice(2);
const k8s = await import(pathToFileURL(path.join(modules, '@kubernetes/client-node/dist/index.js')));
const LIMIT = 30_000;
let checks = 0;

function check(condition, what) {
  assert.ok(condition, what);
  checks += 1;
}

async function codeOf(call) {
  try {
    await call();
  } catch (error) {
    return error.code;
  }
  return undefined;
}

function connect() {
  const config = new k8s.KubeConfig();
  config.loadFromFile(kubeconfig);
  return config;
}

const inDefault = (rest) => ({namespace: 'default', ...rest});
const configMap = (name, data) => ({metadata: {name, labels: {by: 'node'}}, data});

async function configMaps(core) {
  const made = await core.createNamespacedConfigMap(inDefault({body: configMap('typed', {k: 'v'})}));
  check(made.metadata.uid, 'a created object has a uid');
  check(made.metadata.creationTimestamp instanceof Date, 'times are times');
  const twice = () => core.createNamespacedConfigMap(inDefault({body: configMap('typed', {})}));
  check(await codeOf(twice) === 409, 'a second create conflicts');
  const patch = (contentType, body) => core.patchNamespacedConfigMap(
    inDefault({name: 'typed', body, fieldManager: 'node', force: contentType === k8s.PatchStrategy.ServerSideApply ? true : undefined}),
    k8s.setHeaderOptions('Content-Type', contentType));
  let now = await patch(k8s.PatchStrategy.MergePatch, {data: {more: 'x'}});
  assert.deepEqual(now.data, {k: 'v', more: 'x'});
  now = await patch(k8s.PatchStrategy.JsonPatch, [{op: 'remove', path: '/data/more'}]);
  assert.deepEqual(now.data, {k: 'v'});
  now = await patch(k8s.PatchStrategy.ServerSideApply,
    {apiVersion: 'v1', kind: 'ConfigMap', metadata: {name: 'typed'}, data: {applied: 'yes'}});
  check(now.metadata.managedFields.some((entry) => entry.operation === 'Apply'), 'an apply is recorded');
  const list = await core.listNamespacedConfigMap(inDefault({labelSelector: 'by=node'}));
  check(list.items.length === 1, 'a label selector selects');
  await core.deleteNamespacedConfigMap(inDefault({name: 'typed'}));
  check(await codeOf(() => core.readNamespacedConfigMap(inDefault({name: 'typed'}))) === 404, 'a deleted object is gone');
}

async function objects(config) {
  const api = k8s.KubernetesObjectApi.makeApiClient(config);
  await api.create({
    apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition',
    metadata: {name: 'gears.node.example.com'},
    spec: {
      group: 'node.example.com', scope: 'Namespaced',
      names: {plural: 'gears', singular: 'gear', kind: 'Gear', listKind: 'GearList'},
      versions: [{
        name: 'v1', served: true, storage: true,
        schema: {openAPIV3Schema: {type: 'object', properties: {
          spec: {type: 'object', properties: {teeth: {type: 'integer', minimum: 1}}}}}},
      }],
    },
  });
  const end = Date.now() + LIMIT;
  const gear = {apiVersion: 'node.example.com/v1', kind: 'Gear', metadata: {name: 'g', namespace: 'default'}};
  for (;;) {
    try {
      await api.create({...gear, spec: {teeth: 3}});
      break;
    } catch (error) {
      check(error.code === 404 && Date.now() < end, `a new kind is served: ${error}`);
    }
  }
  const bad = () => api.patch({...gear, spec: {teeth: 0}}, undefined, undefined, undefined, undefined, k8s.PatchStrategy.MergePatch);
  check(await codeOf(bad) === 422, 'the schema is enforced');
  check((await api.read(gear)).spec.teeth === 3, 'a custom resource is read');
  await api.delete(gear);
}

async function informer(config) {
  const bell = new EventEmitter();
  let core = config.makeApiClient(k8s.CoreV1Api);
  const selector = 'by=node';
  const list = () => core.listNamespacedConfigMap(inDefault({labelSelector: selector}));
  const informer = k8s.makeInformer(config, '/api/v1/namespaces/default/configmaps', list, selector);
  const seen = {add: [], update: [], delete: []};
  for (const verb of Object.keys(seen)) {
    informer.on(verb, (object) => {
      seen[verb].push(object.metadata.name);
      bell.emit('seen');
    });
  }
  let errors = 0;
  informer.on('error', () => {
    errors += 1;
    check(errors < 200, 'the server is back soon');
    setTimeout(() => informer.start(), 100);
  });
  const until = async (what, holds) => {
    const signal = AbortSignal.timeout(LIMIT);
    while (!holds()) {
      await once(bell, 'seen', {signal}).catch(() => assert.fail(`${what}: ${JSON.stringify(seen)}`));
    }
    check(true, what);
  };
  await core.createNamespacedConfigMap(inDefault({body: configMap('first', {k: '1'})}));
  await informer.start();
  await until('what is there is told', () => seen.add.includes('first'));
  await core.createNamespacedConfigMap(inDefault({body: configMap('second', {k: '1'})}));
  await until('what comes is told', () => seen.add.includes('second'));
  execFileSync(restart[0], restart.slice(1), {stdio: 'ignore'});
  // Every start has credentials of its own; the informer goes on with the new ones.
  config.loadFromFile(kubeconfig);
  core = config.makeApiClient(k8s.CoreV1Api);
  await core.replaceNamespacedConfigMap(inDefault({name: 'second', body: configMap('second', {k: '2'})}));
  await until('what changes after a restart is told', () => seen.update.includes('second'));
  await core.deleteNamespacedConfigMap(inDefault({name: 'first'}));
  await until('what goes is told', () => seen.delete.includes('first'));
  assert.deepEqual(informer.list().map((object) => object.metadata.name), ['second']);
  await informer.stop();
  await core.deleteNamespacedConfigMap(inDefault({name: 'second'}));
}

const config = connect();
await configMaps(config.makeApiClient(k8s.CoreV1Api));
await objects(config);
await informer(config);
console.log(`javascript client: ${checks} checks`);
process.exit(0);
