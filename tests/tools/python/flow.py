"""What a program does with Kubernetes' Python client against Kittiwake. Prints one line a step.

    python flow.py KUBECONFIG IMAGE
"""

import sys

from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException

GROUP, VERSION, NAMESPACE = "serving.knative.dev", "v1", "default"


def say(*words):
    print(*words, flush=True)


def refused(what, call):
    """Prints how a call that must fail is answered."""
    try:
        call()
        say(what, "should have failed")
    except ApiException as error:
        say(what, error.status, error.reason)


def config_maps(core):
    made = core.create_namespaced_config_map(
        NAMESPACE, {"metadata": {"name": "a", "labels": {"tier": "x"}}, "data": {"x": "1"}}
    )
    say("created", made.metadata.name, made.data)
    refused("created again:", lambda: core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "a"}}))
    say("patched", core.patch_namespaced_config_map("a", NAMESPACE, {"data": {"y": "2"}}).data)
    say("json patched", core.patch_namespaced_config_map("a", NAMESPACE, [{"op": "remove", "path": "/data/x"}]).data)
    made.data = {"z": "3"}
    refused("replaced a stale one:", lambda: core.replace_namespaced_config_map("a", NAMESPACE, made))
    fresh = core.read_namespaced_config_map("a", NAMESPACE)
    fresh.data = {"z": "3"}
    say("replaced", core.replace_namespaced_config_map("a", NAMESPACE, fresh).data)
    for name in "bcd":
        core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": name, "labels": {"tier": "y"}}})
    names, token = [], None
    while True:
        page = core.list_namespaced_config_map(NAMESPACE, limit=3, _continue=token)
        names.append([item.metadata.name for item in page.items])
        token = page.metadata._continue
        if not token:
            break
    say("pages", names)
    chosen = core.list_namespaced_config_map(NAMESPACE, label_selector="tier in (y),tier", field_selector="metadata.name!=b")
    say("selected", [item.metadata.name for item in chosen.items])
    refused("selected badly:", lambda: core.list_namespaced_config_map(NAMESPACE, field_selector="data.x=1"))
    version = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    core.delete_namespaced_config_map("b", NAMESPACE)
    core.patch_namespaced_config_map("c", NAMESPACE, {"data": {"x": "1"}})
    core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "e"}})
    stream = watch.Watch()
    events = []
    for event in stream.stream(core.list_namespaced_config_map, NAMESPACE, resource_version=version, timeout_seconds=30):
        events.append((event["type"], event["object"].metadata.name))
        if len(events) == 3:
            stream.stop()
    say("watched", events)
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="tier=y")
    say("left", [item.metadata.name for item in core.list_namespaced_config_map(NAMESPACE).items])
    say("dry run", core.delete_namespaced_config_map("a", NAMESPACE, dry_run="All")["status"])
    say("deleted", core.delete_namespaced_config_map("a", NAMESPACE)["status"])
    refused("read what is gone:", lambda: core.read_namespaced_config_map("a", NAMESPACE))


def services(image):
    api = client.CustomObjectsApi()
    body = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Service",
        "metadata": {"name": "hello"},
        "spec": {"template": {"spec": {"containers": [{"image": image}]}}},
    }
    place = (GROUP, VERSION, NAMESPACE, "services")
    say("service", api.create_namespaced_custom_object(*place, body)["metadata"]["generation"])
    for event in watch.Watch().stream(
        api.list_namespaced_custom_object, *place, field_selector="metadata.name=hello", timeout_seconds=60
    ):
        conditions = event["object"].get("status", {}).get("conditions", [])
        if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
            say("ready", event["object"]["status"]["latestReadyRevisionName"])
            break
    wrong = {**body, "metadata": {"name": "wrong"}, "spec": {"template": {"spec": {"containers": []}}}}
    refused("a service without container:", lambda: api.create_namespaced_custom_object(*place, wrong))
    patched = api.patch_namespaced_custom_object(*place, "hello", {"metadata": {"labels": {"a": "b"}}})
    say("labels", patched["metadata"]["labels"])
    api.delete_namespaced_custom_object(*place, "hello")
    refused("read a service that is gone:", lambda: api.get_namespaced_custom_object(*place, "hello"))


def discovered():
    """The dynamic client finds kinds by itself and applies from the server's side."""
    kinds = dynamic.DynamicClient(client.ApiClient())
    maps = kinds.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"x": "1"}}
    say("applied", maps.server_side_apply(body, "applied", NAMESPACE, field_manager="python").data.to_dict())
    body["data"]["x"] = "2"
    try:
        maps.server_side_apply(body, "applied", NAMESPACE, field_manager="other")
    except dynamic.exceptions.ConflictError as error:
        say("conflict", error.status)
    forced = maps.server_side_apply(body, "applied", NAMESPACE, field_manager="other", force_conflicts=True)
    say("forced", forced.data.to_dict())
    maps.delete("applied", NAMESPACE)


def main():
    config.load_kube_config(sys.argv[1])
    say("server", client.VersionApi().get_code().major)
    core = client.CoreV1Api()
    say("default namespace:", "default" in [item.metadata.name for item in core.list_namespace().items])
    config_maps(core)
    services(sys.argv[2])
    discovered()


main()
