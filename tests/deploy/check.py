"""Judges the files in deploy/ as far as that goes without a container engine, a cluster or a running systemd.

    check.py --root REPOSITORY... --portcullis BINARY --pem DIR --systemd-analyze PROGRAM [--only PART]

Prints a JSON list: the faults of each repository, one line a fault, `file: what`. Called by ../deploy.rs, which also breaks the
files one by one and looks whether that is seen. DIR has `cert.pem` and `key.pem`, to stand in for secrets.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import check_jsonschema
import jsonschema
import kubernetes_validate
import yaml

# The oldest Kubernetes that has sidecars without asking for them, and the newest that the schemas know.
KUBERNETES = ("1.29", kubernetes_validate.latest_version())
# Portcullis drains for at most this many seconds.
DRAIN = 30
# What systemd-analyze may say of the unit, in tenths: above it, something was opened.
EXPOSURE = 15
# Variables without a flag.
SECRET_VARIABLES = {"PORTCULLIS_REDIS_PASSWORD", "PORTCULLIS_ROOT_TOKEN"}
WORKLOADS = {"Deployment", "Job"}


class Judge:
    def __init__(self, root, portcullis, pem, systemd_analyze):
        # Absolute: some are run in other directories.
        self.root, self.portcullis, self.pem = root.resolve(), portcullis.resolve(), pem.resolve()
        self.systemd_analyze = systemd_analyze
        self.faults = []
        self.help = {command: self.said(command, "--help") for command in ("serve", "init")}
        self.variables = set(re.findall(r"\[env: (PORTCULLIS_\w+)", self.help["serve"])) | SECRET_VARIABLES

    def fault(self, file, what):
        self.faults.append(f"{file}: {what}")

    def expect(self, holds, file, what):
        if not holds:
            self.fault(file, what)

    def read(self, file):
        return (self.root / file).read_text()

    def said(self, *args):
        return subprocess.run([self.portcullis, *args], capture_output=True, text=True, check=True).stdout

    # ------------------------------------------------------------------------------------------- what is run

    def judge_command(self, file, args, env, place):
        """Whether Portcullis takes this command line with this environment; `place` says where a path really lies."""
        self.expect(args[:1] in (["serve"], ["init"]), file, f"runs {args}, neither serve nor init")
        if args[:1] not in (["serve"], ["init"]):
            return
        for flag in (arg.split("=")[0] for arg in args[1:] if arg.startswith("-")):
            self.expect(re.search(rf"{flag}\b", self.help[args[0]]), file, f"{args[0]} knows no {flag}")
        for name in env:
            known = name in self.variables or not name.startswith("PORTCULLIS_")
            self.expect(known, file, f"Portcullis knows no variable {name}")
        env = {name: place(value) for name, value in env.items()}
        args = ["config", "check", *map(place, args[1:])]
        ran = subprocess.run([self.portcullis, *args], capture_output=True, text=True, env=env)
        said = (ran.stderr + ran.stdout).strip()
        self.expect(ran.returncode == 0, file, f"config check refuses its settings: {said}")

    # ------------------------------------------------------------------------------------------- the image

    def dockerfile(self):
        file = "deploy/Dockerfile"
        text = self.read(file)
        ran = subprocess.run(["hadolint", "-"], input=text, capture_output=True, text=True, env=path_of_python())
        self.expect(ran.returncode == 0, file, f"hadolint: {ran.stdout}{ran.stderr}")
        lines = [line.split() for line in text.replace("\\\n", " ").splitlines() if line and line[0] != "#"]
        stages = [line[line.index("AS") + 1] for line in lines if line[0] == "FROM" and "AS" in line]
        ignored = self.read(".dockerignore").split("\n")
        kept = [line[1:] for line in ignored if line.startswith("!")]
        self.expect("*" in ignored, ".dockerignore", "does not leave out everything that is not named")
        context = []
        for line in (line for line in lines if line[0] == "COPY"):
            options = dict(word[2:].split("=") for word in line[1:] if word.startswith("--"))
            if "from" in options:
                self.expect(options["from"] in stages, file, f"there is no stage {options['from']}")
                continue
            for source in [word for word in line[1:] if not word.startswith("--")][:-1]:
                context.append(source)
                self.expect((self.root / source).exists(), file, f"COPY {source}: it is not there")
                self.expect(source in kept, ".dockerignore", f"leaves out {source}, which the image is built from")
        self.expect(set(kept) <= set(context), ".dockerignore", f"lets in {set(kept) - set(context)}, which nothing needs")
        last = {line[0]: line[1:] for line in lines[max(n for n, line in enumerate(lines) if line[0] == "FROM") :]}
        self.expect(last.get("USER", ["0"])[0].split(":")[0] not in ("0", "root"), file, "runs as root")
        self.expect(last.get("ENTRYPOINT") == ['["/usr/local/bin/portcullis"]'], file, "does not run Portcullis")
        self.judge_command(file, json.loads(" ".join(last["CMD"])), dict([last["ENV"][0].split("=")]), str)
        secret = re.search(r"(?i)^(ENV|ARG).*(password|token|secret)", text, re.MULTILINE)
        self.expect(not secret, file, "has a secret in it")

        # The build finds all that Cargo.toml names, and the profile and the program that are asked for.
        build = [line for line in lines if line[:3] == ["RUN", "cargo", "build"]]
        self.expect(len(build) == 1 and "--locked" in build[0], file, "does not build what is locked")
        manifest = tomllib.loads(self.read("Cargo.toml"))
        for kind, folder in (("bench", "benches"), ("example", "examples"), ("bin", "src/bin"), ("test", "tests")):
            for target in manifest.get(kind, []):
                paths = [target["path"]] if "path" in target else [f"{folder}/{target['name']}{end}" for end in (".rs", "/main.rs")]
                copied = any(path.startswith(f"{source}/") and (self.root / path).exists() for path in paths for source in context)
                self.expect(copied, file, f"cargo cannot build without {paths[0]}")
        for source in ("Cargo.toml", "Cargo.lock", "build.rs", "src", "proto"):
            self.expect(source in context, file, f"cargo cannot build without {source}")
        words = dict(zip(build[0], build[0][1:]))
        profile = words.get("--profile")
        self.expect(profile in manifest["profile"], file, f"Cargo.toml has no profile {profile}")
        program = f"/src/target/{words.get('--profile')}/{words.get('--bin')}"
        self.expect(any(program in line for line in lines), file, f"does not copy {program}")

    # ------------------------------------------------------------------------------------------- compose

    def compose(self):
        file = "deploy/compose.yaml"
        here = self.root / "deploy"
        text = yaml.safe_load(self.read(file))
        schema = Path(check_jsonschema.__file__).parent / "builtin_schemas/vendor/compose-spec.json"
        validator = jsonschema.validators.validator_for(json.loads(schema.read_text()))
        for error in validator(json.loads(schema.read_text())).iter_errors(text):
            self.fault(file, f"schema: {error.json_path}: {error.message}")
        services, secrets = text["services"], self.secrets()
        used = {"volumes": set(), "networks": set()}
        for name, service in services.items():
            at = f"{file}: {name}"
            self.expect(service.get("read_only") is True, at, "its root file system can be written")
            self.expect(service.get("cap_drop") == ["ALL"], at, "keeps capabilities")
            self.expect("no-new-privileges:true" in service.get("security_opt", []), at, "may gain privileges")
            self.expect("privileged" not in service, at, "is privileged")
            image = service["image"]
            self.version(at, image)
            ours = image.startswith("portcullis:")
            self.expect(not ours or "build" in service, at, f"looks for {image} in a registry")
            user = str(service.get("user", "" if ours else "0"))
            self.expect(user.split(":")[0] not in ("0", "root"), at, "runs as root")
            for needed, how in service.get("depends_on", {}).items():
                other = services.get(needed)
                self.expect(other, at, f"depends on {needed}, which is not there")
                if how["condition"] == "service_healthy":
                    self.expect("healthcheck" in (other or {}), at, f"waits for the health of {needed}, which has none")
                if how["condition"] == "service_completed_successfully":
                    ends = str((other or {}).get("restart", "no")).split(":")[0] in ("no", "on-failure")
                    self.expect(ends, at, f"waits for the end of {needed}, which never ends")
            for volume in service.get("volumes", []):
                source, target = volume.split(":")[:2]
                if source.startswith("."):
                    there = (here / source).exists() or source.removeprefix("./") in secrets
                    self.expect(there, at, f"{source} is neither there nor made by the commands of README.md")
                    self.expect(volume.endswith(":ro"), at, f"may write {source}")
                else:
                    used["volumes"].add(source)
            env_file = service.get("env_file")
            self.expect(env_file in (None, *secrets), at, f"{env_file} is not made by the commands of README.md")
            used["networks"] |= set(service.get("networks", []))
            for port in service.get("ports", []):
                self.expect(port.startswith("127.0.0.1:"), at, f"publishes {port} to everybody")
            if "build" in service:
                context = here / service["build"]["context"]
                self.expect((context / service["build"]["dockerfile"]).exists(), at, "its Dockerfile is not there")
            if ours:
                self.compose_portcullis(at, services, service)
        for kind, names in used.items():
            declared = set(text[kind])
            self.expect(names == declared, file, f"{kind}: declared {sorted(declared)}, used {sorted(names)}")
        gates = {service["environment"]["PORTCULLIS_GATE"].removeprefix("unix:") for service in services.values()
                 if service.get("environment", {}).get("PORTCULLIS_GATE")}
        envoy = self.read("deploy/compose/envoy.yaml")
        asked = set(re.findall(r"pipe: { path: (\S+) }", envoy))
        self.expect(asked == gates, "deploy/compose/envoy.yaml", f"asks {sorted(asked)}, the gates are {sorted(gates)}")
        self.expect(common(envoy) == common(self.read("deploy/envoy/fleet.yaml")), "deploy/compose/envoy.yaml",
                    "differs from ../envoy/fleet.yaml in more than addresses and policies")
        self.expect("gates:/run/portcullis" in services["envoy"]["volumes"], file, "Envoy does not see the gates")

    def version(self, at, image):
        self.expect(re.search(r":[^:/]*\d", image), at, f"{image} has no version")
        if "/envoy:" in image:
            tested = re.search(r"(?m)^readonly ENVOY=(\S+)", self.read("tests/run"))[1]
            self.expect(image.endswith(f"-v{tested}"), at, f"{image} is not the Envoy {tested} of the tests")
        if image.startswith("portcullis:"):
            own = tomllib.loads(self.read("Cargo.toml"))["package"]["version"]
            self.expect(image == f"portcullis:{own}", at, f"{image} is not Portcullis {own}")

    def compose_portcullis(self, at, services, service):
        env = dict(service["environment"])
        redis = re.fullmatch(r"redis://portcullis@(\w+):6379", env["PORTCULLIS_REDIS"])
        other = services.get(redis[1] if redis else None, {})
        near = set(other.get("networks", [])) & set(service["networks"])
        self.expect(near, at, f"does not reach {env['PORTCULLIS_REDIS']}")
        env |= dict(line.split("=", 1) for line in self.secrets().get(service["env_file"], "").splitlines())
        self.expect("PORTCULLIS_REDIS_PASSWORD" in env, at, "has no password for Redis")
        if service["command"][0] == "serve":
            grace = int(service.get("stop_grace_period", "10s").removesuffix("s"))
            self.expect(grace > DRAIN, at, f"is killed after {grace} s, before it has drained")
            probe = service["healthcheck"]["test"]
            self.expect(probe[:2] == ["CMD", "portcullis"], at, "is not asked for its health without a shell")
            ran = subprocess.run([self.portcullis, *probe[2:], "--help"], capture_output=True)
            self.expect(ran.returncode == 0, at, f"there is no command {probe}")
        self.judge_command(at, service["command"], env, str)

    def secrets(self):
        """Runs the commands of README.md that make the secrets: their names, as compose.yaml says them, and contents."""
        if not hasattr(self, "_secrets"):
            blocks = re.findall(r"```sh\n(.*?)```", self.read("deploy/README.md"), re.DOTALL)
            block = next(block for block in blocks if "openssl rand" in block)
            with tempfile.TemporaryDirectory() as scratch:
                Path(scratch, "deploy").mkdir()
                Path(scratch, "deploy/redis").symlink_to(self.root / "deploy/redis")
                ran = subprocess.run(["bash", "-euc", block], cwd=scratch, capture_output=True, text=True)
                self.expect(ran.returncode == 0, "deploy/README.md", f"the secrets cannot be made: {ran.stderr}")
                made = Path(scratch, "deploy/secrets").iterdir()
                self._secrets = {f"secrets/{path.name}": path.read_text() for path in made}
            acl = self._secrets.get("secrets/users.acl", "")
            self.expect(re.search(r"on sanitize-payload #(?!0{64})[0-9a-f]{64} ", acl), "deploy/README.md", "makes no ACL")
        return self._secrets

    # ------------------------------------------------------------------------------------------- Kubernetes

    def kubernetes(self):
        folder = self.root / "deploy/kubernetes"
        objects = []
        for path in sorted(folder.glob("*.yaml")):
            file = f"deploy/kubernetes/{path.name}"
            for thing in yaml.safe_load_all(path.read_text()):
                for version in KUBERNETES:
                    try:
                        kubernetes_validate.validate(thing, version, strict=True)
                    except Exception as error:  # Also a kind or version that it knows nothing of.
                        self.fault(file, f"Kubernetes {version}: {thing.get('kind')}: {(str(error) or repr(error)).splitlines()[0]}")
                objects.append((file, thing))
        pods = [(file, thing, thing["spec"]["template"]) for file, thing in objects if thing["kind"] in WORKLOADS]
        self.expect(len(pods) == 3, "deploy/kubernetes", f"{len(pods)} workloads")
        for file, thing, template in pods:
            self.pod(f"{file}: {thing['kind']} {thing['metadata']['name']}", thing, template, objects)
        for file, thing in objects:
            at = f"{file}: {thing['kind']} {thing['metadata']['name']}"
            labels = [template["metadata"]["labels"] for other, _, template in pods if other == file]
            if thing["kind"] == "NetworkPolicy":
                wanted = thing["spec"]["podSelector"]["matchLabels"]
                ports = {port["port"] for rule in thing["spec"]["ingress"] for port in rule["ports"]}
            elif thing["kind"] == "Service":
                wanted = thing["spec"]["selector"]
                ports = {port["targetPort"] for port in thing["spec"]["ports"]}
            elif thing["kind"] == "PodDisruptionBudget":
                wanted, ports = thing["spec"]["selector"]["matchLabels"], set()
            else:
                continue
            self.expect(any(wanted.items() <= own.items() for own in labels), at, f"selects nothing: {wanted}")
            templates = [template for other, _, template in pods if other == file]
            # A sidecar's names are not looked up by all versions.
            named = {port["name"] for template in templates for it in template["spec"]["containers"] for port in it.get("ports", [])}
            named |= {port["containerPort"] for template in templates for port in ports_of(template)}
            self.expect(ports <= named, at, f"leads to {ports - named}, which no container has")

    def pod(self, at, thing, template, objects):
        spec = template["spec"]
        selector = thing["spec"].get("selector", {}).get("matchLabels", {})
        self.expect(selector.items() <= template["metadata"]["labels"].items(), at, "its selector is not of its pods")
        self.expect(spec.get("automountServiceAccountToken") is False, at, "has a token of Kubernetes")
        context = spec.get("securityContext", {})
        self.expect(context.get("runAsNonRoot") is True, at, "may run as root")
        self.expect(context.get("runAsUser", 0) > 0, at, "runs as root")
        self.expect(context.get("seccompProfile") == {"type": "RuntimeDefault"}, at, "filters no system calls")
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            self.expect(key not in spec, at, f"has {key}")
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        used = set()
        ports = [port["containerPort"] for port in ports_of(template)]
        self.expect(len(ports) == len(set(ports)), at, f"two containers on one port: {ports}")
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            here = f"{at}: {container['name']}"
            used |= {mount["name"] for mount in container.get("volumeMounts", [])}
            self.container(here, container)
            for mount in container.get("volumeMounts", []):
                self.expect(mount["name"] in volumes, here, f"there is no volume {mount['name']}")
            if container["image"].startswith("portcullis:"):
                self.portcullis_container(here, spec, container, volumes, objects)
        self.expect(used == set(volumes), at, f"nothing mounts {set(volumes) - used}")

    def container(self, at, container):
        context = container.get("securityContext", {})
        self.expect(context.get("readOnlyRootFilesystem") is True, at, "its root file system can be written")
        self.expect(context.get("allowPrivilegeEscalation") is False, at, "may gain privileges")
        self.expect(context.get("capabilities") == {"drop": ["ALL"]}, at, "keeps capabilities")
        self.expect(not context.get("privileged"), at, "is privileged")
        self.expect("memory" in container.get("resources", {}).get("limits", {}), at, "has no limit of memory")
        self.expect("cpu" in container.get("resources", {}).get("requests", {}), at, "asks for no processor")
        self.version(at, container["image"])
        named = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        for probe in (container[key] for key in ("startupProbe", "livenessProbe", "readinessProbe") if key in container):
            port = (probe.get("httpGet") or probe.get("tcpSocket"))["port"]
            self.expect(port in named or port in named.values(), at, f"is probed at {port}, which it does not have")

    def portcullis_container(self, at, spec, container, volumes, objects):
        env = {}
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            secret = variable["name"] in SECRET_VARIABLES
            self.expect(("secretKeyRef" in source) == secret, at, f"{variable['name']}: a secret, and only that, is a Secret")
            stand_in = {"PORTCULLIS_ROOT_TOKEN": None, "PORTCULLIS_REDIS_PASSWORD": "secret"}
            value = variable.get("value", stand_in.get(variable["name"], "a-pod"))
            if value is not None:
                env[variable["name"]] = value
        if container["args"][0] == "serve":
            grace = spec.get("terminationGracePeriodSeconds", 30)
            self.expect(grace > DRAIN, at, f"is killed after {grace} s, before it has drained")
            ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
            ops = env.get("PORTCULLIS_OPS", "127.0.0.1:7702").rsplit(":", 1)
            self.expect(ops == ["0.0.0.0", ports.get("ops")], at, f"no probe reaches its ops listener {ops}")
            if "gate" not in ports:
                # Who asks it is the Envoy of the same pod.
                envoy = re.sub(r"\s", "", self.read("deploy/envoy/envoy.yaml"))
                gate = "address:{0},port_value:{1}".format(*env["PORTCULLIS_GATE"].rsplit(":", 1))
                self.expect(f"socket_address:{{{gate}}}" in envoy, at, f"Envoy does not ask its gate {env['PORTCULLIS_GATE']}")
                edges = [port["containerPort"] for other in spec["initContainers"] for port in other["ports"] if port["name"] == "http"]
                bound = [f"socket_address:{{address:0.0.0.0,port_value:{port}}}" in envoy for port in edges]
                self.expect(bound == [True], at, f"Envoy does not listen on {edges}")
            if "gate" in ports:
                gate = env.get("PORTCULLIS_GATE", "").rsplit(":", 1)
                self.expect(gate == ["0.0.0.0", ports["gate"]], at, f"nobody reaches its gate {gate}")
                mutual = {"PORTCULLIS_GATE_CERT", "PORTCULLIS_GATE_KEY", "PORTCULLIS_GATE_CLIENT_CA"} <= set(env)
                self.expect(mutual, at, "asks its callers for no certificate")
            paths = {key: container.get(key, {}).get("httpGet", {}) for key in ("livenessProbe", "readinessProbe", "startupProbe")}
            for key, path in (("livenessProbe", "/livez"), ("readinessProbe", "/readyz"), ("startupProbe", "/readyz")):
                self.expect(paths[key].get("path") == path, at, f"its {key} asks {paths[key]}")
                self.expect(paths[key].get("port") in ("ops", int(ports.get("ops", 0))), at, f"its {key} does not ask ops")
        self.expect("PORTCULLIS_GATE_INSECURE" not in env, at, "says that its gate is insecure")
        with tempfile.TemporaryDirectory() as scratch:
            mounts = {mount["mountPath"]: volumes.get(mount["name"], {}) for mount in container["volumeMounts"]}
            for path, volume in mounts.items():
                Path(scratch + path).mkdir(parents=True)
                self.fill(at, Path(scratch + path), volume, objects)
            writable = [path for path, volume in mounts.items() if "emptyDir" in volume]
            # A volume belongs to root; Portcullis makes a directory in it that is its own.
            dir = Path(env.get("PORTCULLIS_DATA_DIR", "."))
            self.expect(any(str(dir.parent) == path for path in writable), at, f"cannot make its data directory {dir}")
            place = lambda text: scratch + text if any(text.startswith(path) for path in mounts) else text
            self.judge_command(at, container["args"], env, place)

    def fill(self, at, target, volume, objects):
        """Puts into a directory what Kubernetes would find in the volume."""
        if "configMap" in volume:
            name = volume["configMap"]["name"]
            for _, thing in objects:
                if thing["kind"] == "ConfigMap" and thing["metadata"]["name"] == name:
                    for key, text in thing["data"].items():
                        (target / key).write_text(text)
                    return
            self.fault(at, f"there is no ConfigMap {name}")
        if "secret" in volume:
            keys = [item["key"] for item in volume["secret"].get("items", [])] or ["tls.crt", "tls.key", "ca.crt"]
            for key in keys:
                (target / key).write_bytes((self.pem / ("key.pem" if key.endswith(".key") else "cert.pem")).read_bytes())

    # ------------------------------------------------------------------------------------------- systemd

    def systemd(self):
        file = "deploy/systemd/portcullis.service"
        text = self.read(file)
        settings = [line.split("=", 1) for line in text.splitlines() if "=" in line and line[0] not in "#["]
        once = dict(settings)
        for key, value in (("Type", "exec"), ("DynamicUser", "yes"), ("StateDirectory", "portcullis"),
                           ("NoNewPrivileges", "yes"), ("ProtectSystem", "strict"), ("CapabilityBoundingSet", "")):
            self.expect(once.get(key) == value, file, f"{key} is {once.get(key)}, not {value}")
        self.expect(int(once.get("LimitNOFILE", 0)) >= 65536, file, "has too few files")
        self.expect(int(once.get("TimeoutStopSec", "0s").removesuffix("s")) > DRAIN, file, "is killed before it has drained")
        command = shlex.split(once["ExecStart"])
        self.expect(command[0] == "/usr/local/bin/portcullis", file, f"runs {command[0]}")
        with tempfile.TemporaryDirectory() as scratch:
            place = lambda value: value.replace("%d", scratch).replace("%S", "/var/lib")
            for key, value in settings:
                if key == "LoadCredential":
                    name, source = value.split(":")
                    shipped = self.root / "deploy" / Path(source).name
                    self.expect(shipped.exists(), file, f"{source} is not what deploy/ has")
                    Path(scratch, name).write_text(shipped.read_text() if shipped.exists() else "")
            env = dict(value.split("=", 1) for key, value in settings if key == "Environment")
            self.judge_command(file, command[1:], env, place)
            # As it stands, but for the program, which has to be there.
            unit = Path(scratch, "portcullis.service")
            unit.write_text(text.replace(command[0], str(self.portcullis)))
            for args in (["verify"], ["security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager"]):
                ran = subprocess.run([self.systemd_analyze, *args, unit], capture_output=True, text=True)
                said = ran.stderr + (ran.stdout if ran.returncode else "")
                self.expect(ran.returncode == 0 and not ran.stderr, file, f"systemd-analyze {args[0]}: {said}")


def common(envoy):
    """What two configurations of Envoy have to have in common: all but addresses and policies."""
    envoy = yaml.safe_load(envoy)
    resources = envoy["static_resources"]
    for cluster in resources["clusters"]:
        for key in ("load_assignment", "type", "outlier_detection"):
            cluster.pop(key, None)
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    host = manager["route_config"]["virtual_hosts"][0]
    for key in ("routes", "typed_per_filter_config"):
        host.pop(key)
    return envoy


def ports_of(template):
    containers = [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]
    return [port for container in containers for port in container.get("ports", [])]


def path_of_python():
    """With the programs that came with the Python packages on the path."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", required=True, type=Path, action="append")
    for name in ("portcullis", "pem", "systemd-analyze"):
        parser.add_argument(f"--{name}", required=True, type=Path)
    parser.add_argument("--only", help="dockerfile, compose, kubernetes or systemd")
    arguments = vars(parser.parse_args())
    only, roots = arguments.pop("only"), arguments.pop("root")
    found = []
    for root in roots:
        judge = Judge(root, **arguments)
        for name in [only] if only else ["dockerfile", "compose", "kubernetes", "systemd"]:
            getattr(judge, name)()
        found.append("\n".join(judge.faults))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
