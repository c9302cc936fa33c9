//! What holds for every input.

use std::collections::BTreeSet;

use monopod_agent_proto::v1::put_volume_request::Kind;
use proptest::prelude::*;
use serde_json::json;

use super::super::expand_references;
use super::support::{container, world};

/// The rules of expansion once more, byte by byte and on plain text.
fn expanded(text: &str, known: &str, value: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut result = String::new();
    let mut at = 0;
    while at < characters.len() {
        let next = characters.get(at + 1);
        if characters[at] == '$' && next == Some(&'$') {
            result.push('$');
            at += 2;
            continue;
        }
        if characters[at] == '$' && next == Some(&'(') {
            let rest: String = characters[at + 2..].iter().collect();
            if let Some((name, _)) = rest.split_once(')') {
                if name == known {
                    result.push_str(value)
                } else {
                    result.push_str(&format!("$({name})"))
                }
                at += 3 + name.chars().count();
                continue;
            }
        }
        result.push(characters[at]);
        at += 1;
    }
    result
}

proptest! {
    #[test]
    fn expansion_agrees_with_its_model(text in "[$()Ax]{0,12}") {
        let found = expand_references(&text, |name| (name == "A").then(|| "val$(A)".to_owned()));
        prop_assert_eq!(found, expanded(&text, "A", "val$(A)"));
    }

    #[test]
    fn no_variable_is_given_twice(names in prop::collection::vec("[A-C]", 0..8), image in prop::collection::vec("[A-C]=x", 0..4)) {
        let env: Vec<_> = names.iter().map(|name| json!({"name": name, "value": "$(A)$(B)"})).collect();
        let mut world = container(&json!({"env": env}));
        world.image.env = image;
        let found = world.request().unwrap().environment;
        let names: BTreeSet<&str> = found.iter().map(|variable| variable.name.as_str()).collect();
        prop_assert_eq!(names.len(), found.len());
    }

    #[test]
    fn no_file_leaves_its_volume(path in "[a./]{0,8}") {
        let items = json!([{"key": "k", "path": path}]);
        let spec = json!({
            "volumes": [{"name": "v", "configMap": {"name": "m", "items": items}}],
            "containers": [{"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        });
        let world = world(&spec).with_config_map("m", &json!({"k": "x"}));
        if let Ok(requests) = world.volumes() {
            let Some(Kind::Files(files)) = &requests[0].kind else { panic!("a ConfigMap is files") };
            for file in &files.files {
                let is_name = |part: &str| !matches!(part, "" | "." | "..");
                prop_assert!(file.path.split('/').all(is_name) && !file.path.starts_with(".."), "{}", file.path);
            }
        }
    }

    #[test]
    fn the_same_inputs_give_the_same_plan(keys in prop::collection::btree_set("[a-z]{1,4}", 1..6)) {
        let data: serde_json::Map<String, serde_json::Value> =
            keys.iter().map(|key| (key.clone(), json!(key))).collect();
        let fields = json!({"envFrom": [{"configMapRef": {"name": "m"}}]});
        let make = || container(&fields).with_config_map("m", &json!(data)).request();
        prop_assert_eq!(make(), make());
    }
}
