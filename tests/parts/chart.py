"""The real Helm engine over many values in one process, and every manifest through kubernetes-validate.

   python chart.py < REQUEST > ANSWER     both JSON

Request: {"cases": [{"chart": folder, "values": YAML, "name", "namespace", "revision", "lint": bool}], "versions": ["1.33"]}.
Answer: a list, for each case {"error": text or null, "lint": [text], "files": {template: text}, "manifests": [object],
"problems": [text]}.
"""

import functools
import json
import sys

import helm_python
import kubernetes_validate
import yaml
from kubernetes_validate import utils

# Its schemas are large, and read anew for each manifest otherwise.
utils.schema_contents = functools.lru_cache(maxsize=None)(utils.schema_contents)

# Not of Kubernetes itself: no schema of theirs comes with it.
FOREIGN = {"monitoring.coreos.com/v1"}


class Strict(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):
    """Refuses a key that stands twice, as the API server does."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"keys that stand twice: {twice}")
        return super().construct_mapping(node, deep)


@functools.lru_cache(maxsize=None)
def problems_of(manifest, version):
    try:
        kubernetes_validate.validate(json.loads(manifest), version, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        return f"{version}: no schema: {manifest}"
    except kubernetes_validate.ValidationError as error:
        return f"{version}: {error.message} at {list(error.path)}: {manifest}"
    return None


def answer(case, versions):
    found = {"error": None, "lint": [], "files": {}, "manifests": [], "problems": []}
    try:
        values = helm_python.values_from_yaml(case["values"])
        if case.get("lint"):
            report = helm_python.lint(case["chart"], values, strict=True, namespace=case["namespace"], with_subcharts=True)
            # 1 is for information: "icon is recommended".
            found["lint"] = [message["error"] for message in report["messages"] if message["severity"] > 1]
        with helm_python.Chart.load(case["chart"]) as chart:
            chart.validate_schema(values)
            found["files"] = chart.render(values, name=case["name"], namespace=case["namespace"], revision=case["revision"])
    except helm_python.HelmError as error:
        found["error"] = str(error)
        return found
    for path, text in found["files"].items():
        if path.endswith((".txt", ".tpl")):
            continue
        try:
            manifests = [manifest for manifest in yaml.load_all(text, Strict) if manifest]
        except yaml.YAMLError as error:
            found["problems"].append(f"{path}: {error}\n{text}")
            continue
        found["manifests"] += manifests
        for manifest in manifests:
            if manifest["apiVersion"] in FOREIGN:
                continue
            text = json.dumps(manifest, sort_keys=True)
            found["problems"] += filter(None, (problems_of(text, version) for version in versions))
    return found


def main():
    request = json.load(sys.stdin)
    json.dump([answer(case, request["versions"]) for case in request["cases"]], sys.stdout)


main()
