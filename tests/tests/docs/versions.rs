//! What is released has one version: that of the workspace.

use std::fs;

use super::root;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn workspace() -> toml::Value {
    toml::from_str(&read("Cargo.toml")).unwrap()
}

fn version(workspace: &toml::Value) -> &str {
    workspace["workspace"]["package"]["version"].as_str().unwrap()
}

/// What stands between two texts, of which the first is there once.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let found: Vec<_> = text.split(before).skip(1).collect();
    assert_eq!(found.len(), 1, "{before:?} is there {} times", found.len());
    found[0].split(after).next().unwrap()
}

#[test]
fn everything_that_is_released_has_the_version_of_the_workspace() {
    let workspace = workspace();
    let version = version(&workspace);
    for (name, dependency) in workspace["workspace"]["dependencies"].as_table().unwrap() {
        if dependency.get("path").is_some() {
            assert_eq!(dependency["version"].as_str(), Some(version), "{name} in Cargo.toml");
        }
    }
    let python = read("client-sdk/python/src/keybroker/_version.py");
    assert_eq!(between(&python, "__version__ = \"", "\""), version, "the Python SDK");
    let package: serde_json::Value = serde_json::from_str(&read("client-sdk/js/package.json")).unwrap();
    assert_eq!(package["version"], version, "package.json of the JavaScript SDK");
    let locked: serde_json::Value = serde_json::from_str(&read("client-sdk/js/package-lock.json")).unwrap();
    assert_eq!(locked["version"], version, "package-lock.json of the JavaScript SDK");
    assert_eq!(locked["packages"][""]["version"], version, "package-lock.json of the JavaScript SDK");
    let chart = read("deploy/helm/keybroker/Chart.yaml");
    assert_eq!(between(&chart, "\nversion: ", "\n"), version, "the chart's version");
    assert_eq!(between(&chart, "\nappVersion: \"", "\""), version, "the chart's appVersion");
    assert_eq!(between(&read("deploy/Dockerfile"), "\nARG VERSION=", "\n"), version, "deploy/Dockerfile");
}

#[test]
fn images_are_named_with_the_version_of_the_workspace() {
    let workspace = workspace();
    let version = version(&workspace);
    let pages = [
        "deploy/Dockerfile",
        "deploy/README.md",
        "deploy/compose/.env.example",
        "deploy/compose/README.md",
        "deploy/compose/compose.yaml",
        "deploy/compose/demo.env",
        "deploy/manifests/embedded.yaml",
        "deploy/manifests/production.yaml",
        "deploy/manifests/trial.yaml",
    ];
    let mut images = 0;
    for path in pages {
        let page = read(path);
        for after in ["keybroker:", "keybroker-demo:"].iter().flat_map(|name| page.split(name).skip(1)) {
            let tag = after.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').next().unwrap();
            // A port follows the same name, and the end of a sentence the same dot.
            if tag.trim_end_matches('.').contains('.') {
                assert_eq!(tag.trim_end_matches('.'), version, "{path}");
                images += 1;
            }
        }
    }
    assert!(images >= 10, "{images} images are named");
}
