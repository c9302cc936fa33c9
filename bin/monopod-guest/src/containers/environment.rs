//! The environment of a container's processes: what the host gave, and what every container has besides.

use monopod_agent_proto::v1::EnvironmentVariable;

/// Where programs are looked for when nothing else is said.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the defaults depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults<'a> {
    pub(crate) hostname: &'a str,
    pub(crate) home: &'a str,
    pub(crate) tty: bool,
}

/// `NAME=value` of every variable, each name once. Of several with one name the last counts.
pub(crate) fn complete(given: &[EnvironmentVariable], defaults: Defaults<'_>) -> Vec<String> {
    let mut variables = vec![("PATH", DEFAULT_PATH)];
    if defaults.tty {
        variables.push(("TERM", "xterm"));
    }
    variables.push(("HOSTNAME", defaults.hostname));
    for variable in given {
        set(&mut variables, &variable.name, &variable.value);
    }
    if !variables.iter().any(|(name, value)| *name == "HOME" && !value.is_empty()) {
        set(&mut variables, "HOME", defaults.home);
    }
    variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn set<'a>(variables: &mut Vec<(&'a str, &'a str)>, name: &'a str, value: &'a str) {
    match variables.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = value,
        None => variables.push((name, value)),
    }
}

/// Value of a variable in a list of `NAME=value`.
pub(crate) fn value_of<'a>(environment: &'a [String], name: &str) -> Option<&'a str> {
    environment.iter().find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='))
}

/// The environment of a further program: that of the container, with a terminal type where it has a terminal.
pub(crate) fn for_exec(container: &[String], tty: bool) -> Vec<String> {
    let mut environment = container.to_vec();
    if tty && value_of(container, "TERM").is_none() {
        environment.push("TERM=xterm".to_owned());
    }
    environment
}

#[cfg(test)]
mod tests {
    use monopod_agent_proto::v1::EnvironmentVariable;

    use super::{DEFAULT_PATH, Defaults, complete, for_exec, value_of};

    const DEFAULTS: Defaults<'_> = Defaults { hostname: "web-0", home: "/root", tty: false };

    fn variable(name: &str, value: &str) -> EnvironmentVariable {
        EnvironmentVariable { name: name.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn every_container_has_a_path_a_host_name_and_a_home() {
        let path = format!("PATH={DEFAULT_PATH}");
        assert_eq!(complete(&[], DEFAULTS), [path.as_str(), "HOSTNAME=web-0", "HOME=/root"]);
        let with_terminal = complete(&[], Defaults { tty: true, ..DEFAULTS });
        assert_eq!(with_terminal, [path.as_str(), "TERM=xterm", "HOSTNAME=web-0", "HOME=/root"]);
    }

    #[test]
    fn what_is_given_wins_and_the_last_of_a_name_counts() {
        let given = [variable("A", "1"), variable("PATH", "/bin"), variable("HOME", "/a"), variable("A", "2=3")];
        assert_eq!(complete(&given, DEFAULTS), ["PATH=/bin", "HOSTNAME=web-0", "A=2=3", "HOME=/a"]);
    }

    #[test]
    fn an_empty_home_is_none() {
        assert_eq!(value_of(&complete(&[variable("HOME", "")], DEFAULTS), "HOME"), Some("/root"));
    }

    #[test]
    fn a_further_program_on_a_terminal_knows_its_type() {
        let container = vec!["PATH=/bin".to_owned()];
        assert_eq!(for_exec(&container, false), container);
        assert_eq!(for_exec(&container, true), ["PATH=/bin", "TERM=xterm"]);
        let dumb = vec!["TERM=dumb".to_owned()];
        assert_eq!(for_exec(&dumb, true), dumb);
    }
}
