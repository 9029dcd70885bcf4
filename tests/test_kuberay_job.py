"""The KubeRay manifest: pods and policy against Kubernetes' own models, the rest against RayJob's fields.

The whole definition of RayJob (KubeRay's `config/crd/bases/ray.io_rayjobs.yaml`) comes with the operator, and was found
in no package registry. The schema here lists the fields that KubeRay's API has for RayJob v1, without those of pods,
which Kubernetes' own models check. A cluster checks all of it:
`kubectl apply --dry-run=server --validate=strict -f ray_job_kuberay.yaml`.
"""

import copy
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
import yaml
from kubernetes import client

from study.__main__ import make_parser

ROOT = Path(__file__).parent.parent
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT = {"type": "integer", "minimum": 0}
POD = {"type": "object"}  # checked by `check_model`


def record(required, **fields):
    return {"type": "object", "additionalProperties": False, "required": required.split(), "properties": fields}


AUTOSCALER = record(
    "", resources=POD, image={"type": "string"}, imagePullPolicy={"enum": ["Always", "Never", "IfNotPresent"]},
    env={"type": "array"}, envFrom={"type": "array"}, volumeMounts={"type": "array"}, securityContext=POD,
    idleTimeoutSeconds=COUNT, upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
)  # fmt: skip
HEAD = record(
    "rayStartParams template", serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, headService=POD,
    enableIngress={"type": "boolean"}, rayStartParams=TEXTS, template=POD,
)  # fmt: skip
WORKERS = record(
    "groupName minReplicas maxReplicas rayStartParams template", groupName={"type": "string"}, replicas=COUNT,
    minReplicas=COUNT, maxReplicas=COUNT, numOfHosts=COUNT, rayStartParams=TEXTS, template=POD,
    scaleStrategy={"type": "object"},
)  # fmt: skip
CLUSTER = record(
    "headGroupSpec", headGroupSpec=HEAD, workerGroupSpecs={"type": "array", "items": WORKERS},
    rayVersion={"type": "string"}, enableInTreeAutoscaling={"type": "boolean"}, autoscalerOptions=AUTOSCALER,
    headServiceAnnotations=TEXTS, suspend={"type": "boolean"},
)  # fmt: skip
SPEC = record(
    "entrypoint rayClusterSpec", activeDeadlineSeconds=COUNT, backoffLimit=COUNT, rayClusterSpec=CLUSTER,
    submitterPodTemplate=POD, metadata=TEXTS, clusterSelector=TEXTS, submitterConfig=record("", backoffLimit=COUNT),
    entrypoint={"type": "string"}, runtimeEnvYAML={"type": "string"}, jobId={"type": "string"},
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]}, entrypointResources={"type": "string"},
    entrypointNumCpus={"type": "number"}, entrypointNumGpus={"type": "number"}, ttlSecondsAfterFinished=COUNT,
    shutdownAfterJobFinishes={"type": "boolean"}, suspend={"type": "boolean"},
)  # fmt: skip
RAY_JOB = record(
    "apiVersion kind metadata spec",
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=POD,
    spec=SPEC,
)


def check_model(kind, value, path):
    """Raise AssertionError or ValueError where a value does not fit a type of the Kubernetes client's models."""
    item = re.fullmatch(r"(?:list|dict)[\[(](?:str, ?)?(.+)[\])]", kind)
    if item:
        assert isinstance(value, list if kind.startswith("list") else dict), f"{path} is no {kind}"
        for key, member in enumerate(value) if isinstance(value, list) else value.items():
            check_model(item[1], member, f"{path}.{key}")
    elif kind in ("str", "int", "bool", "float"):
        assert type(value).__name__ == kind, f"{path} is no {kind}"
    elif hasattr(client, kind):
        model = getattr(client, kind)
        names = {written: name for name, written in model.attribute_map.items()}
        assert set(value) <= set(names), f"{path} has unknown {sorted(set(value) - set(names))}"
        model(**{names[written]: member for written, member in value.items()})  # raises where something is missing
        for written, member in value.items():
            check_model(model.openapi_types[names[written]], member, f"{path}.{written}")


@pytest.fixture
def documents():
    return list(yaml.safe_load_all((ROOT / "ray_job_kuberay.yaml").read_text()))


def templates_of(job):
    cluster = job["spec"]["rayClusterSpec"]
    workers = [group["template"] for group in cluster["workerGroupSpecs"]]
    return [job["spec"]["submitterPodTemplate"], cluster["headGroupSpec"]["template"], *workers]


def check_job(job):
    jsonschema.validate(job, RAY_JOB)
    check_model("V1ObjectMeta", job["metadata"], "metadata")
    for template in templates_of(job):
        check_model("V1PodTemplateSpec", template, "template")


def test_the_job_fits_its_schema(documents):
    check_job(documents[0])


@pytest.mark.parametrize(
    "damage",
    [
        lambda job: job["spec"].update(entrypont="x"),
        lambda job: job["spec"].pop("entrypoint"),
        lambda job: job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0].update(maxReplicas="8"),
        lambda job: job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
        lambda job: templates_of(job)[1]["spec"].update(container=[]),
        lambda job: templates_of(job)[1]["spec"]["containers"][0].pop("name"),
        lambda job: templates_of(job)[2]["spec"]["containers"][0]["resources"]["limits"].update({"nvidia.com/gpu": 1}),
        lambda job: templates_of(job)[2]["spec"]["volumes"][1]["emptyDir"].update(size="4Gi"),
    ],
)
def test_a_damaged_job_does_not(documents, damage):
    damaged = copy.deepcopy(documents[0])
    damage(damaged)
    with pytest.raises((AssertionError, ValueError, jsonschema.ValidationError)):
        check_job(damaged)


def test_the_policy_admits_its_own_pods_and_the_operator(documents):
    job, policy = documents
    check_model("V1NetworkPolicy", policy, "policy")
    labels = policy["spec"]["podSelector"]["matchLabels"]
    assert all(template["metadata"]["labels"] == labels for template in templates_of(job))
    own, operator = policy["spec"]["ingress"]
    assert own["from"] == [{"podSelector": {"matchLabels": labels}}]
    assert [port["port"] for port in operator["ports"]] == [8265]
    assert job["spec"]["rayClusterSpec"]["headGroupSpec"]["serviceType"] == "ClusterIP"


def test_every_pod_mounts_what_it_declares_and_runs_one_image(documents):
    images = set()
    for template in templates_of(documents[0]):
        volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
        for container in template["spec"]["containers"]:
            images.add(container["image"])
            assert {mount["name"] for mount in container.get("volumeMounts", [])} == volumes
    assert len(images) == 1


def test_workers_have_what_a_trial_asks_for_and_no_route_to_mlflow(documents):
    _, head, worker = templates_of(documents[0])
    assert worker["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    variables = {name["name"] for name in worker["spec"]["containers"][0]["env"]}
    assert not any(name.startswith("MLFLOW") for name in variables)
    secret = [entry for entry in head["spec"]["containers"][0]["env"] if entry["name"].startswith("MLFLOW")]
    assert len(secret) == 3
    assert all("value" not in entry and entry["valueFrom"]["secretKeyRef"]["name"] == "mlflow" for entry in secret)


def test_the_object_store_fits_into_shared_memory(documents):
    """Ray would put it into /tmp otherwise."""
    group = documents[0]["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    volumes = {volume["name"]: volume for volume in group["template"]["spec"]["volumes"]}
    room = int(volumes["shared-memory"]["emptyDir"]["sizeLimit"].removesuffix("Gi")) << 30
    assert int(group["rayStartParams"]["object-store-memory"]) < room


def test_the_command_is_one_of_the_study(documents):
    words = shlex.split(documents[0]["spec"]["entrypoint"])
    assert words[:3] == ["python", "-m", "study"]
    options = make_parser().parse_args(words[3:])
    mounts = {mount["mountPath"] for mount in templates_of(documents[0])[1]["spec"]["containers"][0]["volumeMounts"]}
    assert str(options.storage.parent) in mounts
    assert str(options.data_folder.parent) in mounts
