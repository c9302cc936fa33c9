//! What Kubernetes refuses of every object by itself, and the CRD therefore does not say.

use crate::{FargateProfile, FargateProfileSpec, Host, HostSpec, Selector, Subnet, SubnetSpec};

/// The problems of one object of each kind with this name and namespace, each as `field: message`.
fn problems(name: &str, namespace: Option<&str>) -> [Vec<String>; 3] {
    let selectors = vec![Selector { namespace: "shop".to_owned(), ..Selector::default() }];
    let zone = "a".to_owned();
    let subnet = SubnetSpec { zone: zone.clone(), cidr: "10.0.0.0/16".to_owned(), private: true, ..Default::default() };
    let mut profile = FargateProfile::new(name, FargateProfileSpec { selectors, ..FargateProfileSpec::default() });
    let mut subnet = Subnet::new(name, subnet);
    let mut host = Host::new(name, HostSpec { zone, ..HostSpec::default() });
    for metadata in [&mut profile.metadata, &mut subnet.metadata, &mut host.metadata] {
        metadata.namespace = namespace.map(str::to_owned);
    }
    [profile.validate(), subnet.validate(), host.validate()]
        .map(|found| found.iter().map(ToString::to_string).collect())
}

#[test]
fn a_name_is_a_lower_case_dns_subdomain() {
    let text = "metadata.name: A name is made of lower-case letters, digits, '-' and '.', with a letter or digit at the ends of every part.";
    for good in ["a", "web-1", "9", "private-a.eu-central-1"] {
        assert_eq!(problems(good, None), [const { Vec::<String>::new() }; 3], "{good}");
    }
    for bad in ["Web", "web_1", "-web", "web-", "a..b", ".a", "a.", "a/b", "a b", "ä"] {
        for found in problems(bad, None) {
            assert_eq!(found, [text], "{bad}");
        }
    }
}

#[test]
fn an_object_of_the_cluster_has_no_namespace() {
    let text = "metadata.namespace: The object belongs to the cluster and to no namespace; leave the field out.";
    for found in problems("web", Some("shop")) {
        assert_eq!(found, [text]);
    }
    assert_eq!(problems("web", Some("")), [const { Vec::<String>::new() }; 3], "an empty one is none");
}
