"""Recipes for Slurm, Kubernetes, containers and ssh: linted, and run as far as one machine goes."""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from select import POLLIN, poll
from typing import Any

import pytest
from scenarios.gate import Gate
from scenarios.processes import COMMAND, PATIENCE, loopback_hosts, write_options

from peer.config import experiment_from
from peer.errors import UserError
from peer.keys import secret_name
from peer.recipes import LONGEST_NAME, RECIPES, network_name, recipe
from peer.roster_file import ROSTER, read_roster
from sim.cli import main
from sim.runner import simulate

PEERS = 3
OPTIONS = {
    "trainer": "synthetic",
    "peers": PEERS,
    "rounds": 3,
    "local_steps": 5,
    "candidate_seeds": 64,
    "curve": "on",
    "sign": True,
}
EXPERIMENT = Path("experiment.toml")
NAME = "kseed-experiment"


def tool(name: str) -> str:
    """The path of a program that a Python package brings, or of the system's own."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name} here")
    return found


def lint(*command: str, text: str) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


# Texts


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_filled_in(name: str) -> None:
    text = recipe(name, EXPERIMENT, 17)
    assert "@@" not in text
    assert text.endswith("\n")
    if name in ("slurm", "kubernetes", "ssh"):
        assert "17" in text
        assert "experiment.toml" in text


@pytest.mark.parametrize("name", ["slurm", "ssh"])
@pytest.mark.parametrize("path", [EXPERIMENT, Path("my runs/it's; rm.toml")])
def test_scripts_are_clean(name: str, path: Path) -> None:
    text = recipe(name, path, PEERS)
    assert lint("bash", "-n", text=text) == ""
    assert lint(tool("shellcheck"), "--color=never", "-", text=text) == ""


def test_the_container_file_is_clean() -> None:
    text = recipe("container", EXPERIMENT, PEERS)
    assert lint(tool("hadolint"), "--no-color", "-", text=text) == ""
    assert text.rstrip().endswith('USER 1000\nWORKDIR /home/kseed\nENTRYPOINT ["kseed"]')


def manifest() -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml", reason="there is no PyYAML here")
    documents: list[dict[str, Any]] = list(
        yaml.safe_load_all(recipe("kubernetes", EXPERIMENT, PEERS))
    )
    return documents


def test_the_manifest_is_as_the_published_schema_says() -> None:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="there is no kubernetes-validate here"
    )
    documents = manifest()
    assert [document["kind"] for document in documents] == [
        "Service",
        "NetworkPolicy",
        "StatefulSet",
    ]
    for document in documents:
        validate.validate(document, validate.latest_version(), strict=True)
    # The check can fail.
    documents[2]["spec"]["replica"] = 3
    with pytest.raises(validate.ValidationError):
        validate.validate(documents[2], validate.latest_version(), strict=True)


def test_the_manifest_hangs_together() -> None:
    service, policy, stateful = manifest()
    spec = stateful["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["replicas"] == PEERS
    assert spec["serviceName"] == service["metadata"]["name"] == NAME
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == spec["selector"]["matchLabels"] == labels
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    pod = spec["template"]["spec"]
    there = {volume["name"] for volume in pod["volumes"]}
    there |= {claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]}
    [init], [main_] = pod["initContainers"], pod["containers"]
    for container in (init, main_):
        assert {mount["name"] for mount in container["volumeMounts"]} <= there
        assert container["securityContext"]["readOnlyRootFilesystem"]
    ports = {port["name"]: port["containerPort"] for port in main_["ports"]}
    assert ports == {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert ports == {"gossip": 5555, "metrics": 9464}
    # Only the container that copies one key sees all of them.
    assert "secrets" not in {mount["name"] for mount in main_["volumeMounts"]}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("experiment.toml", NAME),
        ("dir/Dolly_0.5 (second).toml", "kseed-dolly-0-5-second"),
        ("опыт.toml", "kseed"),
        ("-.toml", "kseed"),
        (f"{'long-' * 30}.toml", "kseed-long-long-long-long-long-long-long"),
    ],
)
def test_the_name_of_a_network_is_a_label_of_dns(path: str, name: str) -> None:
    assert network_name(Path(path)) == name
    assert re.fullmatch("[a-z]([a-z0-9-]*[a-z0-9])?", name)
    assert len(name) <= LONGEST_NAME


def test_a_name_that_breaks_lines_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be named in a recipe"):
        recipe("slurm", Path("a\nrm b.toml"), PEERS)


def test_the_command_prints_or_writes_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / EXPERIMENT
    write_options(path, {"peers": 5, "trainer": "synthetic"})
    assert main(["recipe", "slurm", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed == recipe("slurm", path, 5)
    written = tmp_path / "job.sh"
    assert main(["recipe", "slurm", str(path), "--to", str(written)]) == 0
    assert written.read_text() == printed
    assert main(["recipe", "ssh", str(path), "--to", str(written)]) == 2
    assert capsys.readouterr().err == f"kseed: cannot write {written}: File exists\n"
    assert written.read_text() == printed
    assert main(["recipe", "helm", str(path)]) == 2
    assert "invalid choice: 'helm'" in capsys.readouterr().err
    write_options(path, {"topology": "random-matching"})
    assert main(["recipe", "slurm", str(path)]) == 2
    assert "varies over time" in capsys.readouterr().err
    assert main(["recipe", "slurm", str(tmp_path / "no.toml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# Run for real, with stand-ins for what this machine lacks


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder for stand-ins, with `kseed` in it."""
    folder = tmp_path / "programs"
    folder.mkdir()
    return folder


def stand_in(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def quoted(command: tuple[str, ...]) -> str:
    return " ".join(f"'{word}'" for word in command)


def environment(programs: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", **more}


def simulated(folder: Path) -> str:
    """The digest that all peers of the simulator have in the end."""
    options = OPTIONS | {"out": str(folder / "simulated"), "json": True}
    [digest] = set(simulate(experiment_from(options))["digests"]["accumulator"])
    return str(digest)


def done(
    script: Path, *arguments: str, folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(script), *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


SRUN = """\
while [ "$1" != kseed ]; do shift; done
index=0
for host in $FAKE_HOSTS; do
    SLURM_PROCID=$index "$@" > "$FAKE_OUT-$index" 2>&1 &
    index=$((index + 1))
done
wait
cat "$FAKE_OUT"-*
"""
"""Starts a task for each host, all on this one."""


@pytest.mark.slow
def test_the_slurm_script_runs_and_goes_on_with_other_nodes(tmp_path: Path, programs: Path) -> None:
    stand_in(programs, "kseed", f'exec {quoted(COMMAND)} "$@"')
    stand_in(programs, "srun", SRUN)
    stand_in(programs, "scontrol", '[ "$*" = "show hostnames list" ] && printf "%s\\n" $FAKE_HOSTS')
    write_options(tmp_path / EXPERIMENT, OPTIONS)
    script = tmp_path / "job.sh"
    script.write_text(recipe("slurm", EXPERIMENT, PEERS))
    digest = simulated(tmp_path)
    for job in ("7", "8"):
        hosts = loopback_hosts(PEERS)
        job_environment = environment(
            programs,
            SLURM_JOB_ID=job,
            SLURM_JOB_NODELIST="list",
            FAKE_HOSTS=" ".join(hosts),
            FAKE_OUT=str(tmp_path / f"out-{job}"),
        )
        ended = done(script, folder=tmp_path, environment=job_environment)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert ended.stdout.count(f"accumulator {digest}\n") == PEERS
        roster = read_roster(tmp_path / NAME / f"job-{job}-0" / ROSTER)
        assert roster.addresses == tuple(f"tcp://{host}:5555" for host in hosts)
        # The second job finds everything done.
        assert ("trains in" in ended.stdout) == (job == "7")
    ended = done(script, folder=tmp_path, environment=job_environment)
    assert ended.returncode != 0
    assert "is there already" in ended.stderr


FOLDERS = ("network", "own", "secrets", "peer")
NAMED_BY_VARIABLE = """\
import os, socket, sys
socket.gethostname = lambda: os.environ["HOSTNAME"]
from sim.cli import main
sys.exit(main())
"""
"""`kseed` where this machine cannot be given a pod's name."""


def inside(root: Path, script: str) -> str:
    """A pod's script with the paths of its volumes in a folder."""
    return re.sub(rf"(?<![\w./-])/({'|'.join(FOLDERS)})\b", rf"{root}/\1", script)


def pod(root: Path, peer: int, programs: Path) -> subprocess.Popen[str]:
    """Do what a pod does: its volumes, its first container, then its peer."""
    spec = manifest()[2]["spec"]["template"]["spec"]
    [first], [second] = spec["initContainers"], spec["containers"]
    for name in ("own", "peer"):
        (root / name).mkdir()
    pod_environment = environment(programs, HOSTNAME=f"{NAME}-{peer}", HOME=str(root / "peer"))

    def begun(container: dict[str, Any]) -> subprocess.Popen[str]:
        [script] = container["args"]
        return subprocess.Popen(
            [*container["command"], inside(root, script)],
            cwd=root,
            env=pod_environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    copying = begun(first)
    assert copying.communicate(timeout=PATIENCE) == ("", None)
    assert copying.returncode == 0
    return begun(second)


@pytest.mark.slow
def test_the_pods_of_the_manifest_come_to_equal_digests(tmp_path: Path, programs: Path) -> None:
    stand_in(programs, "kseed", f"exec '{sys.executable}' -c '{NAMED_BY_VARIABLE}' \"$@\"")
    stand_in(programs, "sleep", "exit 0")
    write_options(tmp_path / EXPERIMENT, OPTIONS)
    pattern = loopback_hosts(PEERS)[0].removesuffix("0") + "{}"
    made = tmp_path / "made"
    assert main(["roster", str(tmp_path / EXPERIMENT), "--hosts", pattern, "--to", str(made)]) == 0
    pods = []
    for peer in range(PEERS):
        root = tmp_path / f"pod-{peer}"
        for name, paths in (
            ("network", [tmp_path / EXPERIMENT, made / ROSTER]),
            ("secrets", [made / secret_name(index) for index in range(PEERS)]),
        ):
            (root / name).mkdir(parents=True)
            for path in paths:
                # As Kubernetes mounts them: the group may read.
                mounted = Path(shutil.copy(path, root / name))
                mounted.chmod(0o640)
        pods.append(pod(root, peer, programs))
    ends = [process.communicate(timeout=PATIENCE)[0] for process in pods]
    assert [process.returncode for process in pods] == [0, 0, 0], ends
    digest = simulated(tmp_path)
    for peer, said in enumerate(ends):
        assert f"accumulator {digest}\n" in said
        own = tmp_path / f"pod-{peer}" / "own"
        assert {path.name for path in own.iterdir()} == {secret_name(peer), "ended"}
        assert stat.S_IMODE((own / secret_name(peer)).stat().st_mode) == 0o600
        assert (tmp_path / f"pod-{peer}" / "peer" / "run" / "config.toml").exists()
        [*command, probe] = manifest()[2]["spec"]["template"]["spec"]["containers"][0][
            "readinessProbe"
        ]["exec"]["command"]
        assert subprocess.run([*command, inside(own.parent, probe)], check=False).returncode == 0


SSH = """\
[ "$1 $2" = "-o BatchMode=yes" ] || exit 255
cd "$FAKE_HOSTS/$3" && exec sh -c "$4"
"""
SCP = """\
[ "$1 $2 $3 $4" = "-q -p -o BatchMode=yes" ] || exit 255
exec cp -p "$5" "$FAKE_HOSTS/${6%%:*}/${6#*:}"
"""
"""Each host is a folder of this machine."""


def wait_until_ended(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    watch = poll()
    watch.register(handle, POLLIN)
    ended = watch.poll(1000 * PATIENCE)
    os.close(handle)
    assert ended, f"process {pid} lives on"


@pytest.mark.slow
def test_the_ssh_script_starts_tells_and_stops(tmp_path: Path, programs: Path) -> None:
    stand_in(programs, "kseed", f'exec {quoted(COMMAND)} "$@"')
    stand_in(programs, "ssh", SSH)
    stand_in(programs, "scp", SCP)
    write_options(tmp_path / EXPERIMENT, OPTIONS)
    hosts = loopback_hosts(PEERS)
    to = ["--hosts", ",".join(hosts), "--to", str(tmp_path)]
    assert main(["roster", str(tmp_path / EXPERIMENT), *to]) == 0
    homes = [tmp_path / "hosts" / host for host in hosts]
    for home in homes:
        home.mkdir(parents=True)
    script = tmp_path / "network.sh"
    script.write_text(recipe("ssh", EXPERIMENT, PEERS))

    def files(peer: int) -> set[str]:
        return {path.name for path in (homes[peer] / NAME).iterdir()}

    def pid(peer: int) -> int:
        return int((homes[peer] / NAME / f"peer-{peer}.pid").read_text())

    with Gate() as gate:
        variables = environment(programs, FAKE_HOSTS=str(tmp_path / "hosts"), **gate.environment)

        def said(verb: str) -> list[str]:
            ended = done(script, verb, folder=tmp_path, environment=variables)
            assert (ended.returncode, ended.stderr) == (0, "")
            return [line.partition(": ")[2] for line in ended.stdout.splitlines()]

        assert said("status") == [f"peer {peer} has not been started" for peer in range(PEERS)]
        assert said("start") == [f"peer {peer} is started" for peer in range(PEERS)]
        try:
            first = [pid(peer) for peer in range(PEERS)]
            gate.hold("trains 1 1")
            for peer, line in enumerate(said("status")):
                assert line.startswith(f"peer {peer} runs: kseed: peer {peer} ")
            assert said("start") == [f"peer {peer} runs already" for peer in range(PEERS)]
            assert [pid(peer) for peer in range(PEERS)] == first
            # Another process has the number of one that has ended.
            other = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL)
            path = homes[0] / NAME / "peer-0.pid"
            path.write_text(f"{other.pid}\n")
            assert said("stop") == [
                "peer 0 does not run",
                "peer 1 is stopped",
                "peer 2 is stopped",
            ]
            assert other.poll() is None
            other.kill()
            other.wait()
            path.write_text(f"{first[0]}\n")
            assert said("stop")[0] == "peer 0 is stopped"
            for number in first:
                wait_until_ended(number)
            gate.open()
            said("start")
            for peer in range(PEERS):
                wait_until_ended(pid(peer))
            digest = simulated(tmp_path)
            assert said("status") == [
                f"peer {peer} does not run: accumulator {digest}" for peer in range(PEERS)
            ]
        finally:
            said("stop")
    for peer in range(PEERS):
        own = {EXPERIMENT.name, ROSTER, secret_name(peer), f"peer-{peer}", f"peer-{peer}.log"}
        assert files(peer) == own
        log = (homes[peer] / NAME / f"peer-{peer}.log").read_text()
        assert log.count(f"peer {peer} trains in round 0") == 1


def test_the_ssh_script_wants_a_verb_and_the_roster(tmp_path: Path, programs: Path) -> None:
    script = tmp_path / "network.sh"
    script.write_text(recipe("ssh", EXPERIMENT, PEERS))
    variables = environment(programs)
    ended = done(script, "stopp", folder=tmp_path, environment=variables)
    assert (ended.returncode, ended.stderr) == (2, f"usage: {script} start|status|stop\n")
    (tmp_path / ROSTER).write_text('address = "tcp://a:5555"\n')
    ended = done(script, "start", folder=tmp_path, environment=variables)
    assert (ended.returncode, ended.stderr) == (2, "roster.toml is not the roster of 3 peers\n")
