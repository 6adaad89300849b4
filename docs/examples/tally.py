"""A controller in Python: keeps every value of a Tally in a ConfigMap.

    KUBECONFIG=$(rdd svc paths config) python3 tally.py
"""
import itertools
import time

from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException

GROUP, VERSION, PLURAL = "example.com", "v1", "tallies"

DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"{PLURAL}.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"plural": PLURAL, "singular": "tally", "kind": "Tally"},
        "versions": [{
            "name": VERSION,
            "served": True,
            "storage": True,
            "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "required": ["value"], "properties": {"value": {"type": "string"}}},
                "status": {"type": "object", "properties": {"recorded": {"type": "string"}, "count": {"type": "integer"}}},
            }}},
        }],
    },
}


def install():
    """Applies the definition, and waits until it is served."""
    api = client.ApiextensionsV1Api()
    try:
        api.create_custom_resource_definition(DEFINITION)
    except ApiException as error:
        if error.status != 409:
            raise
    while True:
        found = api.read_custom_resource_definition(DEFINITION["metadata"]["name"])
        if any(c.type == "Established" and c.status == "True" for c in found.status.conditions or []):
            return
        time.sleep(0.1)


def reconcile(tally):
    """One look at one object as it is now: the next step, or none. Repeating it does no harm."""
    name, namespace = tally["metadata"]["name"], tally["metadata"]["namespace"]
    value, status = tally["spec"]["value"], tally.get("status", {})
    if status.get("recorded") == value:
        return
    count = status.get("count", 0)
    owner = client.V1OwnerReference(
        api_version=f"{GROUP}/{VERSION}", kind="Tally", name=name, uid=tally["metadata"]["uid"], controller=True)
    body = client.V1ConfigMap(
        metadata=client.V1ObjectMeta(name=f"{name}-record", owner_references=[owner]),
        data={f"change_{count:03}": value})
    core = client.CoreV1Api()
    try:
        core.create_namespaced_config_map(namespace, body)
    except ApiException as error:
        if error.status != 409:
            raise
        core.patch_namespaced_config_map(f"{name}-record", namespace, {"data": body.data})
    client.CustomObjectsApi().patch_namespaced_custom_object_status(
        GROUP, VERSION, namespace, PLURAL, name, {
            # Refused when somebody has written since this object was seen; the watch brings it again.
            "metadata": {"resourceVersion": tally["metadata"]["resourceVersion"]},
            "status": {"recorded": value, "count": count + 1},
        })


def main():
    config.load_kube_config()
    install()
    api = client.CustomObjectsApi()
    while True:
        # List, then watch from there; when the watch ends or is too old, list again.
        listed = api.list_cluster_custom_object(GROUP, VERSION, PLURAL)
        events = [{"type": "ADDED", "object": item} for item in listed["items"]]
        stream = watch.Watch().stream(
            api.list_cluster_custom_object, GROUP, VERSION, PLURAL,
            resource_version=listed["metadata"]["resourceVersion"], timeout_seconds=300)
        try:
            for event in itertools.chain(events, stream):
                handle(event)
        except ApiException as error:
            if error.status != 410:
                raise


def handle(event):
    if event["type"] == "DELETED":
        return
    try:
        reconcile(event["object"])
    except ApiException as error:
        # Gone or changed meanwhile: another event says how it is now.
        if error.status not in (404, 409):
            raise


if __name__ == "__main__":
    main()
