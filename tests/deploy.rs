//! What is in `deploy/` and the Dockerfile fits the server: variables, values, ports, probes and times.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser};
use llm_cxr::config::{ServeConfig, parse_duration};
use llm_cxr::http::{ErrorCode, ErrorKind};
use serde_norway::Value;

/// `llm-cxr serve`, as far as its settings go.
#[derive(Parser)]
struct Serve {
    #[command(flatten)]
    config: ServeConfig,
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn yaml(path: &str) -> Value {
    let mut value: Value = serde_norway::from_str(&read(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    value.apply_merge().unwrap_or_else(|e| panic!("{path}: {e}"));
    value
}

/// Every YAML file below `deploy/`, relative to the repository.
fn manifests() -> Vec<String> {
    let mut folders: Vec<PathBuf> = vec![repository().join("deploy")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("the entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml") {
                let name = path.strip_prefix(repository()).expect("inside the repository");
                found.push(name.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// Follows keys and indices (`a.b.0.c`).
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, key| {
        let next = match key.parse::<usize>() {
            Ok(index) => value.get(index),
            Err(_) => value.get(key),
        };
        next.unwrap_or_else(|| panic!("`{path}` has no `{key}`"))
    })
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => serde_norway::to_string(other).expect("a scalar").trim().to_owned(),
    }
}

/// Settings of the server in a document: keys of mappings, and the `name`/`value` pairs of a container.
fn settings(value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Mapping(mapping) => {
            let pair = (value.get("name").and_then(Value::as_str), value.get("value"));
            if let (Some(name), Some(value)) = pair
                && name.starts_with("LLM_CXR_")
            {
                found.insert(name.to_owned(), text(value));
            }
            for (key, inner) in mapping {
                match key.as_str() {
                    Some(key) if key.starts_with("LLM_CXR_") => drop(found.insert(key.to_owned(), text(inner))),
                    _ => settings(inner, found),
                }
            }
        }
        Value::Sequence(items) => items.iter().for_each(|item| settings(item, found)),
        _ => {}
    }
}

/// The settings that the image has of itself: `NAME=value` in the Dockerfile's last stage.
fn image_settings() -> BTreeMap<String, String> {
    let dockerfile = read("Dockerfile");
    let (_, runtime) = dockerfile.rsplit_once("\nFROM ").expect("two stages");
    let words = runtime.split_whitespace().filter_map(|word| word.split_once('='));
    let settings = words.filter(|(name, _)| name.starts_with("LLM_CXR_"));
    settings
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The settings in a file of `NAME=value` lines, as `configMapGenerator` reads it.
fn env_file(path: &str) -> BTreeMap<String, String> {
    let text = read(path);
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pairs = lines.map(|line| {
        line.split_once('=')
            .unwrap_or_else(|| panic!("{path}: `{line}` sets nothing"))
    });
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// What a pod of a kind of node (`cpu`, `gpu`) is told: by its image, its ConfigMap, and its container.
fn pod_settings(kind: &str) -> BTreeMap<String, String> {
    let mut all = image_settings();
    all.extend(env_file("deploy/kubernetes/base/server.env"));
    if kind == "gpu" {
        all.extend(env_file("deploy/kubernetes/gpu/server.env"));
    }
    settings(&yaml("deploy/kubernetes/base/deployment.yaml"), &mut all);
    all
}

/// What the server makes of such settings.
fn parsed(settings: &BTreeMap<String, String>, place: &str) -> ServeConfig {
    let command = Serve::command();
    let flags: BTreeMap<String, String> = command
        .get_arguments()
        .filter_map(|a| Some((a.get_env()?.to_str()?.to_owned(), a.get_long()?.to_owned())))
        .collect();
    let mut line = vec!["llm-cxr".to_owned()];
    for (name, value) in settings {
        let flag = flags
            .get(name)
            .unwrap_or_else(|| panic!("{place}: the server knows no {name}"));
        // What compose fills in from the environment is not known here.
        if !value.starts_with("${") {
            line.push(format!("--{flag}={value}"));
        }
    }
    let matches = Serve::command()
        .try_get_matches_from(line)
        .unwrap_or_else(|e| panic!("{place}: {e}"));
    Serve::from_arg_matches(&matches)
        .expect("the matches are of this command")
        .config
}

/// The image's settings, then those of the places given.
fn merged<'a>(places: impl IntoIterator<Item = &'a Value>) -> BTreeMap<String, String> {
    let mut all = image_settings();
    places.into_iter().for_each(|place| settings(place, &mut all));
    all
}

fn routes() -> BTreeSet<String> {
    let contract: Value = serde_norway::from_str(llm_cxr::http::contract::yaml()).expect("the contract is YAML");
    let paths = at(&contract, "paths").as_mapping().expect("a mapping of paths");
    paths.keys().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[test]
fn every_setting_is_one_that_the_server_knows_with_a_value_that_it_takes() {
    let manifests = manifests();
    assert!(manifests.len() >= 8, "the manifests were not found: {manifests:?}");
    parsed(&image_settings(), "Dockerfile");
    for path in manifests {
        let mut found = BTreeMap::new();
        settings(&yaml(&path), &mut found);
        parsed(&found, &path);
    }
    for kind in ["cpu", "gpu"] {
        parsed(&pod_settings(kind), kind);
    }
}

/// In which the server tells those whose requests it cuts off, once the drain's time is over.
const TOLD: Duration = Duration::from_secs(4);

#[test]
fn compose_waits_longer_than_the_drain_before_it_kills() {
    let compose = yaml("deploy/compose.yaml");
    for service in ["cpu", "gpu"] {
        let service = at(&compose, &format!("services.{service}"));
        let grace = parse_duration(&text(at(service, "stop_grace_period"))).expect("a duration");
        assert!(grace > parsed(&merged([service]), "compose").drain_timeout + TOLD);
    }
}

#[test]
fn systemd_waits_longer_than_the_drain_before_it_kills_and_sets_what_the_server_knows() {
    let unit = read("deploy/systemd/llm-cxr.service");
    let values = |key: &str| -> Vec<&str> {
        let lines = unit.lines();
        lines
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .collect()
    };
    let set = values("Environment");
    let pairs = set.iter().map(|pair| pair.split_once('=').expect("NAME=value"));
    let settings: BTreeMap<_, _> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert!(settings.len() >= 3, "{settings:?}");
    let drain = parsed(&settings, "systemd").drain_timeout;
    let wait = values("TimeoutStopSec");
    let wait: u64 = wait[0].parse().expect("a number of seconds");
    assert!(Duration::from_secs(wait) > drain + TOLD);
    assert_eq!(values("LimitCORE"), ["0"]);
}

#[test]
fn kubernetes_waits_longer_than_the_drain_before_it_kills() {
    let deployment = yaml("deploy/kubernetes/base/deployment.yaml");
    let pod = at(&deployment, "spec.template.spec");
    let seconds = |value: &Value| Duration::from_secs(text(value).parse().expect("a number of seconds"));
    let grace = seconds(at(pod, "terminationGracePeriodSeconds"));
    let before = seconds(at(pod, "containers.0.lifecycle.preStop.exec.command.1"));
    for kind in ["cpu", "gpu"] {
        let drain = parsed(&pod_settings(kind), kind).drain_timeout;
        assert!(
            drain > ServeConfig::default().drain_timeout,
            "long requests are finished"
        );
        assert!(grace > before + drain + TOLD);
    }
    let probe = at(pod, "containers.0.startupProbe");
    let start =
        seconds(at(probe, "periodSeconds")) * text(at(probe, "failureThreshold")).parse::<u32>().expect("a number");
    let given_up = seconds(at(&deployment, "spec.progressDeadlineSeconds"));
    assert!(
        given_up > grace + start,
        "an update that takes one pod away first is not given up too early"
    );
}

#[test]
fn an_edit_of_the_settings_gives_the_config_map_another_name_and_so_rolls_the_pods() {
    let base = yaml("deploy/kubernetes/base/kustomization.yaml");
    let gpu = yaml("deploy/kubernetes/gpu/kustomization.yaml");
    let deployment = yaml("deploy/kubernetes/base/deployment.yaml");
    let used = at(
        &deployment,
        "spec.template.spec.containers.0.envFrom.0.configMapRef.name",
    );
    for kustomization in [&base, &gpu] {
        assert_eq!(at(kustomization, "configMapGenerator.0.name"), used);
        assert_eq!(text(at(kustomization, "configMapGenerator.0.envs.0")), "server.env");
        assert!(
            kustomization.get("generatorOptions").is_none(),
            "nothing switches the hash off"
        );
    }
    assert_eq!(text(at(&gpu, "configMapGenerator.0.behavior")), "merge");
}

#[test]
fn no_setting_stands_in_the_container_and_in_a_file_which_it_would_win_over_in_silence() {
    let files = ["base", "gpu"].map(|kind| env_file(&format!("deploy/kubernetes/{kind}/server.env")));
    let mut names = Vec::new();
    for kind in ["base", "gpu", "replicated"] {
        let deployment = yaml(&format!("deploy/kubernetes/{kind}/deployment.yaml"));
        let container = deployment["spec"]["template"]["spec"]["containers"].get(0);
        let variables = container.and_then(|container| container.get("env")?.as_sequence());
        names.extend(
            variables
                .into_iter()
                .flatten()
                .map(|variable| text(at(variable, "name"))),
        );
    }
    assert!(names.iter().any(|name| name == "LLM_CXR_THREADS"), "{names:?}");
    for name in names {
        assert!(
            !files.iter().any(|file| file.contains_key(&name)),
            "{name} stands in both"
        );
    }
}

#[test]
fn to_remove_the_server_does_not_remove_the_bundles() {
    for folder in ["base", "cpu", "gpu", "replicated"] {
        let kustomization = yaml(&format!("deploy/kubernetes/{folder}/kustomization.yaml"));
        let resources = at(&kustomization, "resources").as_sequence().expect("a list");
        for resource in resources
            .iter()
            .map(text)
            .filter(|resource| resource.ends_with(".yaml"))
        {
            let kind = text(at(&yaml(&format!("deploy/kubernetes/{folder}/{resource}")), "kind"));
            assert_ne!(kind, "PersistentVolumeClaim", "{folder}/{resource}");
        }
    }
    let (claim, server) = (
        yaml("deploy/kubernetes/base/volume.yaml"),
        yaml("deploy/kubernetes/base/deployment.yaml"),
    );
    assert_eq!(
        at(&server, "spec.template.spec.volumes.0.persistentVolumeClaim.claimName"),
        at(&claim, "metadata.name")
    );
}

#[test]
fn the_pod_that_fills_the_volume_may_go_wherever_the_server_is() {
    let filler = yaml("deploy/kubernetes/filler.yaml");
    let server = yaml("deploy/kubernetes/gpu/deployment.yaml");
    assert_eq!(
        at(&filler, "spec.tolerations"),
        at(&server, "spec.template.spec.tolerations")
    );
}

#[test]
fn checkouts_that_share_a_builder_get_binaries_of_their_own_sources() {
    let dockerfile = read("Dockerfile");
    let caches = dockerfile
        .split_whitespace()
        .filter(|word| word.starts_with("--mount=type=cache,"));
    let named = caches.map(|cache| cache.contains(",id=llm-cxr-")).collect::<Vec<_>>();
    assert!(named.len() >= 3 && named.iter().all(|named| *named), "{named:?}");
    let touched = dockerfile
        .find(" -exec touch {} +")
        .expect("sources are newer than what is cached");
    assert!(touched < dockerfile.find("make build").expect("it is built"));
    assert!(
        !dockerfile.contains("syntax="),
        "a build without the internet has no frontend to fetch"
    );
}

#[test]
fn an_image_tells_its_commit_and_brings_the_notices_of_what_it_is_made_of() {
    let dockerfile = read("Dockerfile");
    let (building, runtime) = dockerfile.rsplit_once("\nFROM ").expect("two stages");
    assert!(building.contains("LLM_CXR_REVISION=\"$REVISION\" make build"));
    assert!(building.contains("scripts/notices.py --out /out/licences"));
    assert!(read(".dockerignore").contains("\n!scripts/notices.py\n"));
    assert!(runtime.contains("org.opencontainers.image.revision=\"${REVISION}\""));
    // An argument is known in the stages that ask for it alone.
    for stage in [building, runtime] {
        assert!(stage.contains("\nARG REVISION\n"));
    }
    let compose = yaml("deploy/compose.yaml");
    for service in ["cpu", "gpu"] {
        at(&compose, &format!("services.{service}.build.args.REVISION"));
    }
}

#[test]
fn more_replicas_are_spread_and_go_one_at_a_time() {
    let component = yaml("deploy/kubernetes/replicated/kustomization.yaml");
    assert_eq!(text(at(&component, "kind")), "Component");
    let server = yaml("deploy/kubernetes/base/deployment.yaml");
    let labels = at(&server, "spec.selector.matchLabels");
    let patch = yaml("deploy/kubernetes/replicated/deployment.yaml");
    let name = at(&server, "metadata.name");
    assert_eq!(at(&patch, "metadata.name"), name);
    assert!(text(at(&patch, "spec.replicas")).parse::<u32>().expect("a number") > 1);
    let spread = at(&patch, "spec.template.spec.topologySpreadConstraints");
    for constraint in spread.as_sequence().expect("a list") {
        assert_eq!(at(constraint, "labelSelector.matchLabels"), labels);
    }
    let budget = yaml("deploy/kubernetes/replicated/disruptionbudget.yaml");
    assert_eq!(at(&budget, "spec.selector.matchLabels"), labels);
    assert_eq!(text(at(&budget, "spec.maxUnavailable")), "1");
    assert_eq!(text(at(&budget, "spec.unhealthyPodEvictionPolicy")), "AlwaysAllow");
    let scaler = yaml("deploy/kubernetes/replicated/autoscaler.example.yaml");
    assert_eq!(at(&scaler, "spec.scaleTargetRef.name"), name);
    let (listed, scaled) = (metrics(), at(&scaler, "spec.metrics").as_sequence().expect("a list"));
    for metric in scaled {
        let metric = text(at(metric, "pods.metric.name"));
        assert_eq!(listed.get(&metric).map(String::as_str), Some("gauge"), "{metric}");
    }
}

#[test]
fn every_port_is_the_one_that_the_server_listens_on() {
    let config = parsed(&image_settings(), "Dockerfile");
    let port = config.listen.port().to_string();
    assert!(
        config.listen.ip().is_unspecified(),
        "a container listens on every address"
    );
    let dockerfile = read("Dockerfile");
    assert!(dockerfile.contains(&format!("\nEXPOSE {port}\n")));

    let compose = yaml("deploy/compose.yaml");
    for service in ["cpu", "gpu"] {
        let service = at(&compose, &format!("services.{service}"));
        assert!(text(at(service, "ports.0")).ends_with(&format!(":{port}")));
        assert!(text(at(service, "ports.0")).starts_with("${LLM_CXR_PUBLISH:-127.0.0.1:"));
    }

    let deployment = yaml("deploy/kubernetes/base/deployment.yaml");
    let pod = at(&deployment, "spec.template.spec");
    assert_eq!(text(at(pod, "containers.0.ports.0.containerPort")), port);
    for kind in ["cpu", "gpu"] {
        assert_eq!(parsed(&pod_settings(kind), kind).listen, config.listen);
    }
    let policy = yaml("deploy/kubernetes/base/networkpolicy.yaml");
    assert_eq!(text(at(&policy, "spec.ingress.0.ports.0.port")), port);
    let service = yaml("deploy/kubernetes/base/service.yaml");
    assert_eq!(
        at(&service, "spec.ports.0.targetPort"),
        at(pod, "containers.0.ports.0.name")
    );
}

#[test]
fn probes_and_metrics_have_a_port_of_their_own_that_only_prometheus_reaches() {
    let deployment = yaml("deploy/kubernetes/base/deployment.yaml");
    let container = at(&deployment, "spec.template.spec.containers.0");
    let said = pod_settings("cpu");
    let (api, ops) = (&said["LLM_CXR_LISTEN"], &said["LLM_CXR_OPS_LISTEN"]);
    let port = ops
        .strip_prefix("0.0.0.0:")
        .expect("every address: probes come from the node");
    assert_ne!(api, ops);
    assert_eq!(text(at(container, "ports.1.name")), "ops");
    assert_eq!(text(at(container, "ports.1.containerPort")), port);
    let annotations = at(&deployment, "spec.template.metadata.annotations");
    assert_eq!(annotations.get("prometheus.io/port").map(text).as_deref(), Some(port));
    let policy = yaml("deploy/kubernetes/base/networkpolicy.yaml");
    let rules = at(&policy, "spec.ingress").as_sequence().expect("a list of rules");
    let lets_in = |rule: &&Value| {
        let ports = at(rule, "ports").as_sequence().expect("a list of ports");
        ports.iter().any(|open| text(at(open, "port")) == port)
    };
    let open: Vec<&Value> = rules.iter().filter(lets_in).collect();
    assert_eq!(open.len(), 1, "one rule");
    at(open[0], "from.0.namespaceSelector.matchLabels");
    let monitor = yaml("deploy/prometheus/podmonitor.example.yaml");
    assert_eq!(text(at(&monitor, "spec.podMetricsEndpoints.0.port")), "ops");
}

#[test]
fn every_probe_asks_for_a_route_that_is_served() {
    let routes = routes();
    let deployment = yaml("deploy/kubernetes/base/deployment.yaml");
    let container = at(&deployment, "spec.template.spec.containers.0");
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let probe = at(container, probe);
        assert!(routes.contains(&text(at(probe, "httpGet.path"))));
        assert_eq!(at(probe, "httpGet.port"), at(container, "ports.1.name"));
    }
    let scraped = at(&deployment, "spec.template.metadata.annotations")
        .get("prometheus.io/path")
        .map(text);
    assert!(scraped.is_some_and(|path| routes.contains(&path)));

    let compose = yaml("deploy/compose.yaml");
    let url = text(at(&compose, "services.cpu.healthcheck.test.4"));
    let path = url.splitn(4, '/').nth(3).map(|path| format!("/{path}"));
    assert!(path.is_some_and(|path| routes.contains(&path)));
    assert!(
        read("Dockerfile").contains(&url),
        "the image and the compose file ask for the same"
    );
    let config = parsed(&merged([at(&compose, "services.cpu")]), "compose");
    let ops = config.ops_listen.expect("the image has a port for probes");
    assert!(
        url.starts_with(&format!("http://{ops}/")),
        "{url}: clients cannot fill {ops}"
    );
    assert!(ops.ip().is_loopback(), "nobody outside reaches it");
}

#[test]
fn containers_hold_no_rights_that_the_server_does_not_need() {
    let compose = yaml("deploy/compose.yaml");
    for service in ["cpu", "gpu"] {
        let service = at(&compose, &format!("services.{service}"));
        assert_eq!(at(service, "read_only"), &Value::Bool(true));
        assert_eq!(text(at(service, "cap_drop.0")), "ALL");
        assert_eq!(text(at(service, "security_opt.0")), "no-new-privileges:true");
        assert!(text(at(service, "volumes.0")).ends_with(":/models:ro"));
        assert_eq!(text(at(service, "ulimits.core")), "0");
        assert_eq!(
            at(service, "mem_limit"),
            at(service, "memswap_limit"),
            "nothing goes to swap"
        );
        for bound in ["max-size", "max-file"] {
            at(service, &format!("logging.options.{bound}"));
        }
    }

    let deployment = yaml("deploy/kubernetes/base/deployment.yaml");
    let pod = at(&deployment, "spec.template.spec");
    let user = text(at(pod, "securityContext.runAsUser"));
    assert_eq!(at(pod, "securityContext.runAsNonRoot"), &Value::Bool(true));
    assert!(read("Dockerfile").contains(&format!("\nUSER {user}:{user}\n")));
    let container = at(pod, "containers.0.securityContext");
    assert_eq!(at(container, "readOnlyRootFilesystem"), &Value::Bool(true));
    assert_eq!(at(container, "allowPrivilegeEscalation"), &Value::Bool(false));
    assert_eq!(text(at(container, "capabilities.drop.0")), "ALL");
    let policy = yaml("deploy/kubernetes/base/networkpolicy.yaml");
    assert_eq!(
        at(&policy, "spec.egress"),
        &Value::Sequence(Vec::new()),
        "nothing goes out"
    );
}

#[test]
fn the_keys_are_where_the_server_looks_for_them() {
    let deployment = yaml("deploy/kubernetes/base/deployment.yaml");
    let pod = at(&deployment, "spec.template.spec");
    let secret = yaml("deploy/kubernetes/base/secret.example.yaml");
    let config = parsed(&pod_settings("cpu"), "kubernetes");
    assert_eq!(at(pod, "volumes.1.secret.secretName"), at(&secret, "metadata.name"));
    let (file, _) = at(&secret, "stringData")
        .as_mapping()
        .and_then(|m| m.iter().next())
        .expect("one key");
    let mounted = Path::new(&text(at(pod, "containers.0.volumeMounts.1.mountPath"))).join(text(file));
    assert_eq!(config.api_keys_file.as_deref(), Some(mounted.as_path()));
    assert!(
        at(pod, "containers.0.volumeMounts.1").get("subPath").is_none(),
        "a file that is mounted by itself is never brought up to date"
    );
    // A folder on the volume, so that another can lie beside it.
    let volume = text(at(pod, "containers.0.volumeMounts.0.mountPath"));
    assert_eq!(config.model.folder.parent(), Some(Path::new(&volume)));
}

#[test]
fn the_gpu_variants_ask_for_a_gpu_and_use_it() {
    use llm_cxr::config::DeviceChoice;
    let compose = yaml("deploy/compose.yaml");
    let gpu = at(&compose, "services.gpu");
    assert_eq!(
        text(at(gpu, "deploy.resources.reservations.devices.0.driver")),
        "nvidia"
    );
    assert_eq!(text(at(gpu, "build.args.TARGET")), "cuda");
    assert_eq!(parsed(&merged([gpu]), "compose").model.device, DeviceChoice::Cuda(0));
    assert_eq!(
        parsed(&merged([at(&compose, "services.cpu")]), "compose").model.device,
        DeviceChoice::Cpu
    );

    let deployment = yaml("deploy/kubernetes/gpu/deployment.yaml");
    let device = |kind| parsed(&pod_settings(kind), kind).model.device;
    assert_eq!(
        (device("cpu"), device("gpu")),
        (DeviceChoice::Cpu, DeviceChoice::Cuda(0))
    );
    let limits = at(&deployment, "spec.template.spec.containers.0.resources.limits");
    assert_eq!(limits.get("nvidia.com/gpu").map(text).as_deref(), Some("1"));
}

#[test]
fn each_kind_of_node_gets_its_own_image_over_the_same_base() {
    for (kind, tag) in [("cpu", "0.1.0"), ("gpu", "0.1.0-cuda")] {
        let kustomization = yaml(&format!("deploy/kubernetes/{kind}/kustomization.yaml"));
        assert_eq!(text(at(&kustomization, "resources.0")), "../base");
        // As the base names it, before any kustomization has renamed it.
        let deployment = yaml("deploy/kubernetes/base/deployment.yaml");
        let image = at(&deployment, "spec.template.spec.containers.0.image");
        assert_eq!(at(&kustomization, "images.0.name"), image);
        assert_eq!(text(at(&kustomization, "images.0.newTag")), tag);
    }
    let base = yaml("deploy/kubernetes/base/kustomization.yaml");
    assert!(
        base.get("images").is_none(),
        "an image renamed here is not found by cpu and gpu"
    );
}

#[test]
fn an_ingress_takes_what_the_server_takes_and_waits_as_long() {
    let ingress = yaml("deploy/kubernetes/ingress.example.yaml");
    let config = ServeConfig::default();
    let annotations = at(&ingress, "metadata.annotations");
    let said = |name: &str| {
        let value = annotations.get(format!("nginx.ingress.kubernetes.io/{name}"));
        value.map(text).unwrap_or_else(|| panic!("{name} is not set"))
    };
    assert_eq!(said("proxy-body-size"), format!("{}m", config.max_body_bytes >> 20));
    let wait: u64 = said("proxy-read-timeout")
        .trim_matches(|c| c == '\'' || c == '"')
        .parse()
        .expect("seconds");
    assert!(wait > config.request_timeout.as_secs());
    let service = yaml("deploy/kubernetes/base/service.yaml");
    let backend = at(&ingress, "spec.rules.0.http.paths.0.backend.service");
    assert_eq!(at(backend, "name"), at(&service, "metadata.name"));
    assert_eq!(at(backend, "port.name"), at(&service, "spec.ports.0.name"));
}

#[test]
fn a_gateway_waits_as_long_for_the_same_service() {
    let route = yaml("deploy/kubernetes/gateway.example.yaml");
    let service = yaml("deploy/kubernetes/base/service.yaml");
    let rule = at(&route, "spec.rules.0");
    for timeout in ["request", "backendRequest"] {
        let wait = parse_duration(&text(at(rule, &format!("timeouts.{timeout}")))).expect("a duration");
        assert!(wait > ServeConfig::default().request_timeout);
    }
    assert_eq!(at(rule, "backendRefs.0.name"), at(&service, "metadata.name"));
    assert_eq!(at(rule, "backendRefs.0.port"), at(&service, "spec.ports.0.port"));
}

#[test]
fn a_proxys_log_has_no_query_strings_which_hold_questions() {
    let map = yaml("deploy/kubernetes/ingress-nginx-log.example.yaml");
    let format = text(at(&map, "data.log-format-upstream"));
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named = format
        .split('$')
        .skip(1)
        .map(|rest| rest.split(|c: char| !is_name(c)).next());
    let named: BTreeSet<&str> = named.flatten().collect();
    assert!(named.contains("uri"), "{format}");
    for with_query in [
        "request",
        "request_uri",
        "args",
        "query_string",
        "http_referer",
        "is_args",
    ] {
        assert!(!named.contains(with_query), "{format} has {with_query}");
    }
    assert_eq!(text(at(&map, "data.error-log-level")), "crit");
}

#[test]
fn a_proxy_gives_idle_connections_up_before_the_server_closes_them() {
    let map = yaml("deploy/kubernetes/ingress-nginx-log.example.yaml");
    let kept = at(&map, "data.upstream-keepalive-timeout").as_str();
    let kept: u64 = kept
        .expect("a ConfigMap holds strings")
        .parse()
        .expect("a number of seconds");
    let closed = ["cpu", "gpu"].map(|kind| parsed(&pod_settings(kind), kind).header_timeout);
    assert!(closed.iter().all(|after| Duration::from_secs(kept) < *after));
}

/// Every metric with its kind, as docs/operations.md lists them; tests/http/operation.rs holds that list to what is served.
fn metrics() -> BTreeMap<String, String> {
    let page = read("docs/operations.md");
    let rows = page
        .lines()
        .filter(|row| row.starts_with("| `llm_cxr_") || row.starts_with("| `process_"));
    rows.flat_map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let kind = cells[2].to_owned();
        let names = cells[1].split(',').map(|name| name.trim().trim_matches('`').to_owned());
        names.map(move |name| (name, kind.clone())).collect::<Vec<_>>()
    })
    .collect()
}

/// The metrics that an expression names, each with the selector behind it, without its braces.
fn selected(expression: &str) -> Vec<(&str, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(begin) = rest.find(is_name) {
        rest = &rest[begin..];
        let (name, behind) = rest.split_at(rest.find(|c: char| !is_name(c)).unwrap_or(rest.len()));
        let selector = behind.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        match selector {
            Some((selector, after)) => {
                found.push((name, selector));
                rest = after;
            }
            None => {
                if name.starts_with("llm_cxr_") || name.starts_with("process_") {
                    found.push((name, ""));
                }
                rest = behind;
            }
        }
    }
    found
}

#[test]
fn every_alert_asks_for_metrics_and_codes_that_there_are_of_one_scrape_job() {
    let (metrics, rules) = (metrics(), yaml("deploy/prometheus/rules.yaml"));
    let job = text(at(
        &yaml("deploy/prometheus/scrape.example.yaml"),
        "scrape_configs.0.job_name",
    ));
    let rules = at(&rules, "groups.0.rules").as_sequence().expect("a list of rules");
    assert!(rules.len() >= 8 && metrics.len() >= 20, "they were not found");
    let mut alerts = BTreeSet::new();
    for rule in rules {
        let (alert, expression) = (text(at(rule, "alert")), text(at(rule, "expr")));
        at(rule, "labels.severity");
        at(rule, "annotations.summary");
        if let Some(wait) = rule.get("for") {
            parse_duration(&text(wait)).expect("a duration");
        }
        let selected = selected(&expression);
        assert!(!selected.is_empty(), "{alert} looks at nothing");
        for (name, selector) in selected {
            let of_a_histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|end| name.strip_suffix(end))
                .any(|name| metrics.get(name).is_some_and(|kind| kind == "histogram"));
            let known = metrics.get(name).is_some_and(|kind| kind != "histogram");
            assert!(known || of_a_histogram || name == "up", "{alert}: there is no {name}");
            let labels: Vec<&str> = selector.split(',').collect();
            assert!(
                labels.contains(&format!("job=\"{job}\"").as_str()),
                "{alert}: {name} of which job?"
            );
            let codes = labels.iter().filter_map(|label| label.strip_prefix("code="));
            for code in codes.flat_map(|codes| codes.trim_start_matches('~').trim_matches('"').split('|')) {
                let there_is = |known: &ErrorCode| match code.strip_suffix(".*") {
                    Some(begin) => known.as_str().starts_with(begin),
                    None => known.as_str() == code,
                };
                assert!(ErrorCode::ALL.iter().any(there_is), "{alert}: there is no code {code}");
            }
        }
        assert!(alerts.insert(alert), "two alerts of one name");
    }
}

#[test]
fn every_fault_of_the_server_or_its_device_raises_an_alert() {
    let rules = yaml("deploy/prometheus/rules.yaml");
    let rules = at(&rules, "groups.0.rules").as_sequence().expect("a list of rules");
    let faults = rules.iter().find(|rule| text(at(rule, "alert")) == "LlmCxrFaults");
    let expression = text(at(faults.expect("it is there"), "expr"));
    let (_, codes) = expression.split_once("code=~\"").expect("it picks codes");
    let told: BTreeSet<&str> = codes.split('"').next().expect("the codes").split('|').collect();
    // Two are passing states of a server that is well, and the third has an alert of its own.
    let others = ["loading", "shutting_down", "deadline_exceeded"];
    let known = ErrorCode::ALL.iter().filter(|code| code.kind() == ErrorKind::Server);
    let faults: BTreeSet<&str> = known
        .map(|code| code.as_str())
        .filter(|code| !others.contains(code))
        .collect();
    assert_eq!(told, faults);
}

/// The alerts' expressions by name.
fn alerts() -> BTreeMap<String, String> {
    let rules = yaml("deploy/prometheus/rules.yaml");
    let rules = at(&rules, "groups.0.rules").as_sequence().expect("a list of rules");
    let alert = |rule: &Value| (text(at(rule, "alert")), text(at(rule, "expr")));
    rules.iter().map(alert).collect()
}

#[test]
fn that_no_server_is_there_at_all_is_an_alert_too() {
    let expression = &alerts()["LlmCxrGone"];
    assert!(expression.contains("absent(up{"), "{expression}");
}

#[test]
fn no_namespace_speaks_for_another_in_an_alert() {
    let scrape = yaml("deploy/prometheus/scrape.example.yaml");
    let labels = at(&scrape, "scrape_configs.0.relabel_configs");
    let set = |label: &Value| label.get("target_label").map(text);
    let set: Vec<String> = labels.as_sequence().expect("a list").iter().filter_map(set).collect();
    assert!(
        ["namespace", "pod"]
            .iter()
            .all(|label| set.iter().any(|set| set == label))
    );
    for (alert, expression) in alerts() {
        for operator in ["sum", "count", "max", "min", "avg", "group"] {
            for (at, _) in expression.match_indices(operator) {
                // Functions of one series' own past have such names, too: max_over_time.
                let behind = &expression[at + operator.len()..];
                let aggregates = behind.starts_with(" by (") || behind.starts_with('(');
                assert!(
                    !aggregates || behind.starts_with(" by (namespace"),
                    "{alert}: {expression}"
                );
            }
        }
    }
}

#[test]
fn a_server_that_loads_as_long_as_it_may_is_no_alert_of_its_own() {
    let probe = yaml("deploy/kubernetes/base/deployment.yaml");
    let probe = at(&probe, "spec.template.spec.containers.0.startupProbe");
    let seconds = |name: &str| text(at(probe, name)).parse::<u64>().expect("a number");
    let loading = Duration::from_secs(seconds("periodSeconds") * seconds("failureThreshold"));
    let rules = yaml("deploy/prometheus/rules.yaml");
    let rules = at(&rules, "groups.0.rules").as_sequence().expect("a list of rules");
    let rule = rules.iter().find(|rule| text(at(rule, "alert")) == "LlmCxrNotReady");
    let wait = text(at(rule.expect("it is there"), "for"));
    assert!(parse_duration(&wait).expect("a duration") > loading);
}

#[test]
fn the_trials_of_the_alerts_are_of_alerts_that_there_are() {
    let (alerts, trials) = (alerts(), yaml("deploy/prometheus/rules_test.yaml"));
    assert_eq!(text(at(&trials, "rule_files.0")), "rules.yaml");
    for trial in at(&trials, "tests").as_sequence().expect("a list") {
        for asked in at(trial, "alert_rule_test").as_sequence().expect("a list") {
            let name = text(at(asked, "alertname"));
            assert!(alerts.contains_key(&name), "{name}");
        }
    }
}

#[test]
fn selectors_are_found_in_an_expression() {
    let expression = "sum by (le) (rate(llm_cxr_a_bucket{job=\"x\",b=\"y\"}[5m])) > 5 or llm_cxr_b == 0";
    assert_eq!(
        selected(expression),
        [("llm_cxr_a_bucket", "job=\"x\",b=\"y\""), ("llm_cxr_b", "")]
    );
}
