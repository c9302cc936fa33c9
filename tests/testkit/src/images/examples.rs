//! The images that examples and tests run, from the machine's own static busybox.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{LayerBuilder, TestImage};

const BUSYBOX: &str = "/bin/busybox";
pub(super) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Answers `/cgi-bin/kernel`: the kernel is the guest's own.
const KERNEL: &str = "#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
uname -r
";

/// Answers `/cgi-bin/hostname`.
const HOSTNAME: &str = "#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
hostname
";

/// The first process of a container gets no signal that it does not ask for.
const SERVE: &str = "#!/bin/sh
httpd -f -vv -p 8080 -h /var/www &
server=$!
trap 'kill $server; exit 0' TERM INT
wait $server
";

const INDEX: &str = "<!doctype html>
<title>Monopod</title>
<h1>It runs in a microVM of its own.</h1>
<p>Its kernel: <a href=\"/cgi-bin/kernel\">/cgi-bin/kernel</a></p>
";

/// A shell and its tools.
///
/// # Errors
/// When the machine has no busybox that needs no libraries.
pub fn busybox() -> Result<TestImage> {
    let image = TestImage::named("monopod.local/busybox:1").layer(base()?);
    Ok(image.with("Env", vec![PATH]).with("Cmd", vec!["sh"]))
}

/// A web server on port 8080, with a page, and `/cgi-bin/kernel` and `/cgi-bin/hostname`.
///
/// # Errors
/// When the machine has no busybox that needs no libraries.
pub fn web() -> Result<TestImage> {
    let site = LayerBuilder::new()
        .folder("usr/local", 0o755)
        .folder("usr/local/bin", 0o755)
        .file("usr/local/bin/serve", 0o755, SERVE.as_bytes())
        .folder("var/www", 0o755)
        .folder("var/www/cgi-bin", 0o755)
        .file("var/www/index.html", 0o644, INDEX.as_bytes())
        .file("var/www/cgi-bin/kernel", 0o755, KERNEL.as_bytes())
        .file("var/www/cgi-bin/hostname", 0o755, HOSTNAME.as_bytes());
    let image = TestImage::named("monopod.local/web:1").layer(base()?).layer(site);
    let image = image.with("Env", vec![PATH]).with("Entrypoint", vec!["/usr/local/bin/serve"]);
    Ok(image.with("ExposedPorts", serde_json::json!({"8080/tcp": {}})))
}

pub(super) fn base() -> Result<LayerBuilder> {
    let program = std::fs::read(BUSYBOX).with_context(|| format!("failed to read {BUSYBOX}"))?;
    let output = Command::new(BUSYBOX).arg("--list").output().with_context(|| format!("failed to run {BUSYBOX}"))?;
    ensure!(output.status.success(), "{BUSYBOX} --list failed: {}", output.status);
    let applets = String::from_utf8(output.stdout).context("names of applets are text")?;
    let mut layer = LayerBuilder::new();
    for folder in ["bin", "etc", "home", "root", "sbin", "usr", "usr/bin", "usr/sbin", "var"] {
        layer = layer.folder(folder, if folder == "root" { 0o700 } else { 0o755 });
    }
    layer = layer.folder("tmp", 0o1777).file("bin/busybox", 0o755, &program);
    for applet in applets.lines().filter(|applet| !matches!(*applet, "busybox" | "")) {
        layer = layer.symlink(&format!("bin/{applet}"), "busybox");
    }
    let layer = layer.symlink("usr/bin/env", "/bin/busybox").file("etc/passwd", 0o644, PASSWD.as_bytes());
    Ok(layer.file("etc/group", 0o644, GROUP.as_bytes()))
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/var/www:/bin/false
app:x:1000:1000:app:/home:/bin/sh
nobody:x:65534:65534:nobody:/home:/bin/false
";

const GROUP: &str = "root:x:0:
www-data:x:33:app
app:x:1000:
nogroup:x:65534:
";
