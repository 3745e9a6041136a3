"""cluster.yaml: Ray's launcher takes it, nothing is open, and what it installs is what is tested here."""

import ast
import copy
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from hubert_ecg.errors import ConfigError
from hubert_ecg.pipeline.ray_cluster import LIMITS, cluster_limits
from tests.job_commands import ROOT
from tests.object_store import store_environment

TEXT = (ROOT / "cluster.yaml").read_text()
CONFIG: dict[str, Any] = yaml.safe_load(TEXT)
TEMPLATE = (ROOT / "deploy" / "aws" / "once.yaml").read_text()

LAUNCH = """
import copy, json, sys, warnings
warnings.simplefilter("ignore")
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.command_runner import SSHCommandRunner
from ray.autoscaler._private.commands import _set_up_config_for_head_node
from ray.autoscaler._private.util import prepare_config, validate_config

class Provider:
    def prepare_for_head_node(self, config):
        return config

config = prepare_config(json.load(sys.stdin))
config = AWSNodeProvider.fillout_available_node_types_resources(config)
validate_config(config)
config = AWSNodeProvider.bootstrap_config(config)
for_head, _ = _set_up_config_for_head_node(copy.deepcopy(config), Provider(), False)
with open(for_head["file_mounts"]["~/ray_bootstrap_config.yaml"]) as file:
    remote = json.load(file)
json.dump({"resolved": config, "remote": remote}, sys.stdout)
"""
"""What `ray up` does before it starts the first machine, by Ray's own functions."""


def test_rays_own_validation_takes_it() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(copy.deepcopy(CONFIG))
    validate_config(config)
    broken = prepare_config(copy.deepcopy(CONFIG) | {"idle_timeout": 3})
    with pytest.raises(Exception, match="idle_timeout"):
        validate_config(broken)


def test_limits_agree_with_one_another() -> None:
    kinds = CONFIG["available_node_types"]
    assert CONFIG["max_workers"] == sum(kind["max_workers"] for kind in kinds.values())
    head = kinds[CONFIG["head_node_type"]]
    assert head["resources"]["CPU"] == 0, "a task must not take the head down"
    assert "InstanceMarketOptions" not in head["node_config"]
    assert kinds["cpu"]["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert "InstanceMarketOptions" not in kinds["gpu"]["node_config"]


def test_jobs_are_told_how_far_the_cluster_may_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = CONFIG["available_node_types"]
    [told] = re.findall(rf"{LIMITS}=(\S+)", "\n".join(CONFIG["head_start_ray_commands"]))
    monkeypatch.setenv(LIMITS, told)
    cpus, gpus = (
        kinds[name]["max_workers"] * kinds[name]["resources"][resource]
        for name, resource in (("cpu", "CPU"), ("gpu", "GPU"))
    )
    assert cluster_limits() == {"CPU": cpus, "GPU": gpus}
    job = yaml.safe_load((ROOT / "deploy" / "kuberay" / "rayjob.yaml").read_text())["spec"]["rayClusterSpec"]
    groups = {group["groupName"]: group for group in job["workerGroupSpecs"]}
    most = {
        resource: groups[name]["maxReplicas"]
        * int(groups[name]["template"]["spec"]["containers"][0]["resources"]["limits"][key])
        for name, resource, key in (("cpu", "CPU", "cpu"), ("gpu", "GPU", "nvidia.com/gpu"))
    }
    [container] = job["headGroupSpec"]["template"]["spec"]["containers"]
    [told] = [variable["value"] for variable in container["env"] if variable["name"] == LIMITS]
    monkeypatch.setenv(LIMITS, told)
    assert cluster_limits() == most
    monkeypatch.setenv(LIMITS, "128 CPUs")
    with pytest.raises(ConfigError, match="wanted the like of CPU=128,GPU=8, got '128 CPUs'"):
        cluster_limits()


def numbers(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    """Every number that is a value by itself."""
    if isinstance(node, yaml.ScalarNode) and node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
        yield node
    elif isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield from numbers(entry)
    elif isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from numbers(value)


def unexplained(text: str) -> list[str]:
    """Lines with a number and without a comment, in the line or directly above it; then numbers of commands that no
    comment in or directly above their block mentions."""
    lines = text.splitlines()
    document = yaml.compose(text)
    assert isinstance(document, yaml.MappingNode)
    missing = []
    for number in numbers(document):
        place = number.start_mark.line
        if " # " not in lines[place] and not lines[place - 1].lstrip().startswith("#"):
            missing.append(lines[place].strip())
    for key, value in document.value:
        if not key.value.endswith("_commands"):
            continue
        first, last = key.start_mark.line, value.end_mark.line
        while lines[first - 1].startswith("#"):
            first -= 1
        block = lines[first:last]
        while block and (not block[-1].strip() or block[-1].startswith("#")):
            block.pop()  # The comment of the block below.
        said = set(re.findall(r"\d+(?:\.\d+)*", " ".join(line for line in block if line.lstrip().startswith("#"))))
        for command in value.value:
            used = set(re.findall(r"(?<=[ =:])\d+(?:\.\d+)*\b", command.value)) - {"0", "127.0.0.1"}
            missing += [f"{key.value}: {number}" for number in sorted(used - said)]
    return missing


def test_every_number_is_explained() -> None:
    assert not unexplained(TEXT)


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("# Why eight.\na: 8\nb: 9 # why nine\nc:\n  # All of\n  d: {e: 1, f: 2}", []),
        ("# Why eight.\na: 8\nb: 9", ["b: 9"]),
        ("# Of the block.\na:\n  b: 9", ["b: 9"]),
        ("# 65536 files.\nx_commands:\n  - ulimit -n 65536; ray --port=6379", ["x_commands: 6379"]),
        ("x_commands:\n  - pip install uv==0.1\n# 0.1 is of the next.\ny_commands:\n  - 'true'", ["x_commands: 0.1"]),
    ],
)
def test_a_number_without_a_reason_is_found(text: str, missing: list[str]) -> None:
    assert unexplained(text) == missing


def test_what_it_installs_is_what_is_tested_here() -> None:
    setup = "\n".join(CONFIG["setup_commands"])
    assert "-c ~/hubert-ecg/constraints.txt -e ~/hubert-ecg" in setup
    [python] = re.findall(r"--python (3\.\d+)", setup)
    assert f"python{python}" in (ROOT / "Makefile").read_text()
    assert CONFIG["file_mounts"]["/home/ubuntu/hubert-ecg"] == "."
    uv = next(command for command in CONFIG["setup_commands"] if "pip install" in command)
    assert re.search(r"uv==\d", uv), "what installs is pinned, too"


def test_commands_are_sound_shell() -> None:
    for name in ("initialization_commands", "setup_commands", "head_start_ray_commands", "worker_start_ray_commands"):
        for command in CONFIG[name]:
            subprocess.run(["bash", "-n", "-c", command], check=True)


def test_jobs_on_the_head_find_the_salt_in_their_environment(tmp_path: Path) -> None:
    """The command as it stands, with a `ray` that says what it was started with."""
    ray = tmp_path / "venv" / "bin" / "ray"
    ray.parent.mkdir(parents=True)
    ray.write_text('#!/bin/bash\necho "salt: $ID_SALT"\n')
    ray.chmod(0o755)
    (tmp_path / ".ray").mkdir()
    salt = next(place for place in CONFIG["file_mounts"] if place.endswith("id_salt")).replace("/home/ubuntu", "")
    (tmp_path / salt.lstrip("/")).write_text("of-this-archive\n")
    command = CONFIG["head_start_ray_commands"][-1].replace("ulimit -n 65536;", "")
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "salt: of-this-archive\n"
    for command in CONFIG["worker_start_ray_commands"]:
        assert "ID_SALT" not in command


def test_every_flag_of_ray_start_exists() -> None:
    from ray.scripts.scripts import start

    known = {flag for parameter in start.params for flag in parameter.opts}
    starts = CONFIG["head_start_ray_commands"] + CONFIG["worker_start_ray_commands"]
    used = set(re.findall(r"(--[a-z-]+)", " ".join(starts)))
    assert len(used) >= 5
    assert used <= known
    for command in starts:
        if "ray start" in command:
            assert "RAY_AUTH_MODE=token" in command
            assert "PATH=$HOME/venv/bin:$PATH" in command, "jobs say `python`"
    assert "/home/ubuntu/.ray/auth_token" in CONFIG["file_mounts"]


@pytest.fixture(scope="module")
def account(s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """cluster.yaml as a user has it: the stack deployed into an account that is moto's, the two places filled in."""
    home = tmp_path_factory.mktemp("home")  # The launcher writes a key pair there.
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("a-token")
    (home / ".ray" / "id_salt").write_text("a-salt-of-ids")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store_environment(s3_endpoint).items():
            patch.setenv(name, value)
        patch.setenv("HOME", str(home))
        yield deployed()


def deployed() -> dict[str, Any]:
    ec2, stacks = boto3.client("ec2", "us-east-1"), boto3.client("cloudformation", "us-east-1")
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.7.1.0/24", AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"]
    values = {"Vpc": vpc, "Bucket": "the-runs", "Archive": "the-archive"}
    parameters = [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]
    stacks.create_stack(
        StackName="hubert-ecg", TemplateBody=TEMPLATE, Parameters=parameters, Capabilities=["CAPABILITY_NAMED_IAM"]
    )
    [stack] = stacks.describe_stacks(StackName="hubert-ecg")["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    filled = TEXT.replace("sg-REPLACE", outputs["SecurityGroup"]).replace("subnet-REPLACE", subnet)
    config: dict[str, Any] = yaml.safe_load(filled)
    return config


def launch(config: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", LAUNCH]
    return subprocess.run(
        command, input=json.dumps(config), capture_output=True, text=True, cwd=ROOT, timeout=300, check=False
    )


@pytest.mark.slow
def test_the_launcher_resolves_it_and_nothing_is_open(account: dict[str, Any]) -> None:
    """All that `ray up` asks AWS before it starts a machine, answered by moto."""
    result = launch(account)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    answer = json.loads(result.stdout[result.stdout.index('{"resolved"') :])
    kinds = answer["resolved"]["available_node_types"]
    groups = {group for kind in kinds.values() for group in kind["node_config"]["SecurityGroupIds"]}
    assert groups == set(account["available_node_types"]["head"]["node_config"]["SecurityGroupIds"])
    ec2 = boto3.client("ec2", "us-east-1")
    rules = [
        rule
        for group in ec2.describe_security_groups(GroupIds=sorted(groups))["SecurityGroups"]
        for rule in group["IpPermissions"]
    ]
    assert rules, "members reach one another"
    for rule in rules:
        assert {pair["GroupId"] for pair in rule["UserIdGroupPairs"]} <= groups
        assert not rule["IpRanges"]
        assert not rule["Ipv6Ranges"]
    # The head reaches its workers without the proxy of this computer, and has a key for it.
    remote = answer["remote"]
    assert "ssh_proxy_command" not in remote["auth"]
    assert remote["auth"]["ssh_private_key"]
    assert "a-token" not in json.dumps(answer)
    assert "a-salt-of-ids" not in json.dumps(answer)
    # Resources as the machine has them, or fewer where the head keeps out of the way.
    kinds_of_aws = ec2.describe_instance_types(
        InstanceTypes=sorted({kind["node_config"]["InstanceType"] for kind in kinds.values()})
    )
    cores = {kind["InstanceType"]: kind["VCpuInfo"]["DefaultVCpus"] for kind in kinds_of_aws["InstanceTypes"]}
    for name in ("cpu", "gpu"):
        assert kinds[name]["resources"]["CPU"] == cores[kinds[name]["node_config"]["InstanceType"]]


@pytest.mark.slow
def test_unfilled_places_are_refused(account: dict[str, Any]) -> None:
    """Rather than a security group that the launcher would make, which lets SSH in from everywhere."""
    unfilled = copy.deepcopy(account)
    for kind in unfilled["available_node_types"].values():
        kind["node_config"]["SecurityGroupIds"] = CONFIG["available_node_types"]["head"]["node_config"][
            "SecurityGroupIds"
        ]
    result = launch(unfilled)
    assert result.returncode != 0


def statements(role: str, policies: str) -> list[dict[str, Any]]:
    """Of the policies written into a role (`inline`), or of our own that are attached to it."""
    iam = boto3.client("iam", "us-east-1")
    if policies == "inline":
        names = iam.list_role_policies(RoleName=role)["PolicyNames"]
        found = [iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names]
        documents = [ast.literal_eval(str(content)) for content in found]  # moto hands out Python's own spelling.
    else:
        attached = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
        assert not [policy for policy in attached if "FullAccess" in policy["PolicyName"]]
        ours = [each["PolicyArn"] for each in attached if not each["PolicyArn"].startswith("arn:aws:iam::aws:")]
        versions = [(arn, iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]) for arn in ours]
        documents = [
            iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
            for arn, version in versions
        ]
    return [statement for document in documents for statement in document["Statement"]]


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_roles_may_use_the_bucket_and_no_more(account: dict[str, Any]) -> None:
    iam = boto3.client("iam", "us-east-1")
    for profile in ("hubert-ecg-head", "hubert-ecg-worker"):
        [role] = iam.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"]
        attached = statements(role["RoleName"], "attached")
        actions = {action for statement in attached for action in listed(statement["Action"])}
        assert all(statement["Resource"] != "*" for statement in attached)
        assert {"s3:GetObject", "s3:PutObject", "s3:ListBucket"} <= actions
        assert all(action.startswith("s3:") for action in actions)
    assert not statements("hubert-ecg-worker", "inline")
    for statement in statements("hubert-ecg-head", "inline"):
        # What has no bounds only looks.
        if statement.get("Resource") == "*":
            assert set(listed(statement["Action"])) == {"ec2:Describe*", "ssm:GetParameters"}


def allowed(action: str, resource: str, context: dict[str, str]) -> bool:
    """What IAM would say to a request of the head, by its inline policy of `Allow` and `StringEquals`."""
    for statement in statements("hubert-ecg-head", "inline"):
        assert statement["Effect"] == "Allow"
        conditions = statement.get("Condition", {})
        assert set(conditions) <= {"StringEquals"}
        inside = (
            any(fnmatch(resource, pattern) for pattern in listed(statement["Resource"]))
            if "Resource" in statement
            else not any(fnmatch(resource, pattern) for pattern in listed(statement["NotResource"]))
        )
        wanted = conditions.get("StringEquals", {})
        if (
            inside
            and any(fnmatch(action, pattern) for pattern in listed(statement["Action"]))
            and all(context.get(key) == value for key, value in wanted.items())
        ):
            return True
    return False


MINE = {"ec2:ResourceTag/ray-cluster-name": "hubert-ecg"}
OTHERS = {"ec2:ResourceTag/ray-cluster-name": "billing", "ec2:ResourceTag/Name": "database"}
BORN = {"ec2:CreateAction": "RunInstances"}
NAMED = {"aws:RequestTag/ray-cluster-name": "hubert-ecg"}
INSTANCE = "arn:aws:ec2:us-east-1:123456789012:instance/i-1"


@pytest.mark.parametrize(
    ("action", "context"),
    [
        ("ec2:CreateTags", {}),
        ("ec2:CreateTags", OTHERS),
        ("ec2:CreateTags", OTHERS | NAMED),  # Else: give a machine our tag, then end it.
        ("ec2:CreateTags", NAMED),
        ("ec2:CreateTags", BORN),
        ("ec2:TerminateInstances", OTHERS),
        ("ec2:StopInstances", {}),
        ("ec2:RunInstances", {}),
        ("ec2:RunInstances", {"aws:RequestTag/ray-cluster-name": "billing"}),
        ("ec2:StartInstances", MINE),
        ("ec2:ModifyInstanceAttribute", MINE),
    ],
)
def test_the_head_leaves_other_machines_alone(account: dict[str, Any], action: str, context: dict[str, str]) -> None:
    assert not allowed(action, INSTANCE, context)


def test_the_head_passes_on_the_workers_role_only(account: dict[str, Any]) -> None:
    iam = boto3.client("iam", "us-east-1")
    worker, head = (iam.get_role(RoleName=f"hubert-ecg-{kind}")["Role"]["Arn"] for kind in ("worker", "head"))
    to_machines = {"iam:PassedToService": "ec2.amazonaws.com"}
    assert allowed("iam:PassRole", worker, to_machines)
    assert not allowed("iam:PassRole", head, to_machines)
    assert not allowed("iam:PassRole", worker, {"iam:PassedToService": "lambda.amazonaws.com"})


def test_all_that_rays_launcher_does_to_machines_is_allowed(account: dict[str, Any]) -> None:
    """Ray's own provider starts, tags and ends a machine of moto's; each of its requests is put to the policy."""
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    asked: list[tuple[str, dict[str, Any]]] = []
    session = boto3.Session()
    for action in ("RunInstances", "CreateTags", "TerminateInstances", "StopInstances"):
        session.events.register(
            f"before-parameter-build.ec2.{action}",
            lambda params, action=action, **_: asked.append((action, copy.deepcopy(params))),
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boto3, "DEFAULT_SESSION", session)
        provider = AWSNodeProvider({**account["provider"]}, account["cluster_name"])
        [image] = boto3.client("ec2", "us-east-1").describe_images(Owners=["amazon"])["Images"][:1]
        worker = account["available_node_types"]["cpu"]["node_config"] | {"ImageId": image["ImageId"]}
        [made] = provider.create_node(worker, {"ray-node-type": "worker", "ray-node-status": "uninitialized"}, 1)
        provider.non_terminated_nodes({})
        provider.set_node_tags(made, {"ray-node-status": "up-to-date"})
        provider.terminate_nodes([made])
    assert [action for action, _ in asked] == ["RunInstances", "CreateTags", "TerminateInstances"]
    given = {tag["Key"]: tag["Value"] for spec in asked[0][1]["TagSpecifications"] for tag in spec["Tags"]}
    at_birth = {f"aws:RequestTag/{key}": value for key, value in given.items()}
    later = {f"ec2:ResourceTag/{key}": value for key, value in given.items()}
    assert allowed("ec2:RunInstances", INSTANCE, at_birth)
    for other in ("subnet/subnet-1", "security-group/sg-1", "volume/*", "network-interface/*", "key-pair/ray"):
        assert allowed("ec2:RunInstances", f"arn:aws:ec2:us-east-1:123456789012:{other}", {})
    assert allowed("ec2:RunInstances", "arn:aws:ec2:us-east-1::image/ami-1", {})
    assert {spec["ResourceType"] for spec in asked[0][1]["TagSpecifications"]} == {"instance"}
    assert allowed("ec2:CreateTags", INSTANCE, at_birth | BORN)
    assert allowed("ec2:CreateTags", INSTANCE, later)
    assert allowed("ec2:TerminateInstances", INSTANCE, later)
