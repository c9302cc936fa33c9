//! Dependencies go down the layers only: bin ▸ services ▸ lib ▸ core ▸ contracts. Tests and xtask may use all.

use std::collections::BTreeMap;

use crate::workspace::{Dependency, Package};

/// From the bottom up.
const LAYERS: [&str; 7] = ["contracts", "core", "lib", "services", "bin", "tests", "xtask"];

/// Edges inside one layer that are meant. A new one needs an ADR.
const SIDEWAYS: [(&str, &str); 4] = [
    ("monopod-api", "monopod-types"),
    ("monopod-e2e", "monopod-testkit"),
    ("monopod-podplan", "monopod-policy"),
    ("monopod-vmm-qemu", "monopod-vmm"),
];

/// Every edge between our crates that points up, or sideways without leave, and every crate outside the layers.
pub(super) fn complaints(packages: &[Package]) -> Vec<String> {
    let layers: BTreeMap<&str, &str> =
        packages.iter().map(|package| (package.name.as_str(), package.layer())).collect();
    let mut complaints = Vec::new();
    for package in packages {
        let Some(own) = height(package.layer()) else {
            complaints.push(format!("{}: lies in no layer; move it below one of {LAYERS:?}", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(theirs) = layers.get(dependency.name.as_str()).and_then(|layer| height(layer)) else { continue };
            if !allowed(package, dependency, own, theirs) {
                complaints.push(format!(
                    "{} depends on {}: {} may only use what lies below it",
                    package.name,
                    dependency.name,
                    package.layer()
                ));
            }
        }
    }
    complaints
}

fn height(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|name| *name == layer)
}

fn allowed(package: &Package, dependency: &Dependency, own: usize, theirs: usize) -> bool {
    let testkit = dependency.development && LAYERS[theirs] == "tests";
    // A crate's tests may ask for more of its own features.
    let itself = dependency.development && package.name == dependency.name;
    theirs < own || testkit || itself || SIDEWAYS.contains(&(package.name.as_str(), dependency.name.as_str()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Dependency, Package, complaints};

    fn package(name: &str, folder: &str, dependencies: &[(&str, bool)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, development)| Dependency { name: (*name).to_owned(), development: *development })
            .collect();
        Package { name: name.to_owned(), folder: PathBuf::from(folder), roots: Vec::new(), dependencies }
    }

    #[test]
    fn an_edge_down_is_fine_and_an_edge_up_or_sideways_is_not() {
        let packages = [
            package("monopod-types", "contracts/types", &[]),
            package("monopod-api", "contracts/api", &[("monopod-types", false)]),
            package("policy", "core/policy", &[("monopod-types", false), ("vmm", false)]),
            package("vmm", "lib/vmm", &[("policy", false), ("images", false), ("testkit", true)]),
            package("images", "lib/images", &[("serde", false)]),
            package("testkit", "tests/testkit", &[("vmm", false)]),
        ];
        assert_eq!(
            complaints(&packages),
            [
                "policy depends on vmm: core may only use what lies below it",
                "vmm depends on images: lib may only use what lies below it"
            ]
        );
    }

    #[test]
    fn a_crate_outside_the_layers_is_named() {
        let found = complaints(&[package("stray", "somewhere/stray", &[])]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("stray: lies in no layer"), "{found:?}");
    }
}
