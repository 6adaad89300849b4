"""What a script does with the Python client: typed and dynamic CRUD, server-side apply, watches that resume.

Called with the path of a kubeconfig. Exits 0 and prints `python client: N checks` when all hold;
the first check that does not hold ends it with a traceback.
"""
import sys
import threading

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException

CHECKS = 0


def check(condition, what):
    global CHECKS
    if not condition:
        raise AssertionError(what)
    CHECKS += 1


def status_of(call):
    try:
        call()
    except ApiException as error:
        return error.status
    return None


def config_maps(core):
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="typed", labels={"a": "1"}), data={"k": "v"})
    made = core.create_namespaced_config_map("default", body)
    check(made.metadata.uid, "a created object has a uid")
    check(status_of(lambda: core.create_namespaced_config_map("default", body)) == 409, "a second create conflicts")
    merged = core.patch_namespaced_config_map("typed", "default", {"data": {"more": "x"}})
    check(merged.data == {"k": "v", "more": "x"}, "a strategic merge patch adds a key")
    patched = core.patch_namespaced_config_map("typed", "default", [{"op": "remove", "path": "/data/more"}])
    check(patched.data == {"k": "v"}, "a JSON patch removes a key")
    stale = core.read_namespaced_config_map("typed", "default")
    core.patch_namespaced_config_map("typed", "default", {"data": {"k": "w"}})
    stale.data = {"k": "stale"}
    check(status_of(lambda: core.replace_namespaced_config_map("typed", "default", stale)) == 409,
          "a replace with an old revision conflicts")
    found = core.list_namespaced_config_map("default", label_selector="a=1")
    check([item.metadata.name for item in found.items] == ["typed"], "a label selector selects")
    page = core.list_namespaced_config_map("default", limit=1)
    check(page.metadata._continue, "a page of one has a continuation")
    check(len(core.list_namespaced_config_map("default", _continue=page.metadata._continue).items) >= 1,
          "the continuation continues")
    core.delete_namespaced_config_map("typed", "default")
    check(status_of(lambda: core.read_namespaced_config_map("typed", "default")) == 404, "a deleted object is gone")


def custom_resources(api):
    extensions = client.ApiextensionsV1Api(api)
    extensions.create_custom_resource_definition({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gears.python.example.com"},
        "spec": {"group": "python.example.com", "scope": "Namespaced",
                 "names": {"plural": "gears", "singular": "gear", "kind": "Gear", "listKind": "GearList"},
                 "versions": [{"name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
                               "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                                   "spec": {"type": "object", "properties": {
                                       "teeth": {"type": "integer", "minimum": 3},
                                       "color": {"type": "string", "default": "grey"}}},
                                   "status": {"type": "object", "properties": {"turns": {"type": "integer"}}}}}}}]}})
    gears = dynamic.DynamicClient(api).resources.get(api_version="python.example.com/v1", kind="Gear")
    gear = {"apiVersion": "python.example.com/v1", "kind": "Gear", "metadata": {"name": "g1"}, "spec": {"teeth": 12}}
    made = gears.create(body=gear, namespace="default")
    check(made.spec.color == "grey", "a default is filled in")
    bad = {**gear, "metadata": {"name": "g2"}, "spec": {"teeth": 1}}
    check(status_of(lambda: gears.create(body=bad, namespace="default")) == 422, "a bad object is refused")
    applied = gears.server_side_apply(
        namespace="default", name="g1", field_manager="painter",
        body={"apiVersion": "python.example.com/v1", "kind": "Gear", "metadata": {"name": "g1"},
              "spec": {"color": "red"}}, force_conflicts=True)
    check(applied.spec.to_dict() == {"color": "red", "teeth": 12}, "an apply changes only what it names")
    turned = gears.status.patch(body={"status": {"turns": 7}, "spec": {"teeth": 99}}, name="g1", namespace="default",
                                content_type="application/merge-patch+json")
    check(turned.status.turns == 7 and turned.spec.teeth == 12, "the status endpoint changes only status")
    gears.delete(name="g1", namespace="default")
    extensions.delete_custom_resource_definition("gears.python.example.com")


def watches(core):
    start = core.list_namespaced_config_map("default").metadata.resource_version
    names = [f"w{number}" for number in range(6)]

    def write():
        for name in names:
            core.create_namespaced_config_map("default", client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name)))

    writer = threading.Thread(target=write)
    writer.start()
    seen, last = [], start
    # Each stream is cut after two events; the next one resumes from the last revision that was seen.
    for _ in range(50):
        stream = watch.Watch()
        for event in stream.stream(core.list_namespaced_config_map, "default", resource_version=last,
                                   timeout_seconds=2):
            seen.append((event["type"], event["object"].metadata.name))
            last = event["object"].metadata.resource_version
            if len(seen) % 2 == 0:
                stream.stop()
        if len(seen) >= len(names):
            break
    writer.join()
    check(seen == [("ADDED", name) for name in names], f"resumed watches see each change once, in order: {seen}")
    ended = list(watch.Watch().stream(core.list_namespaced_config_map, "default", resource_version=last,
                                      timeout_seconds=1))
    check(ended == [], "a watch without changes ends at its timeout")
    for name in names:
        core.delete_namespaced_config_map(name, "default")


def main():
    api = config.new_client_from_config(config_file=sys.argv[1])
    core = client.CoreV1Api(api)
    config_maps(core)
    custom_resources(api)
    watches(core)
    print(f"python client: {CHECKS} checks")


main()
