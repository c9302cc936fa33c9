//! What a container finds around it.

use monopod_agent_proto::v1;
use v1::put_volume_request::Kind;

use crate::support::{ended, guest, lines, shell, start, within};

#[tokio::test]
async fn vm_a_container_is_surrounded_as_containerd_and_the_kubelet_would() {
    let guest = guest().await;
    let client = &guest.client;
    let script = "id; pwd; hostname; env | sort; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; \
                  grep -E 'CapEff|CapBnd|CapInh|CapAmb|Seccomp:|NoNewPrivs' /proc/self/status; \
                  readlink /proc/self/fd/0; echo $$; cat /proc/self/cgroup; cat /etc/hostname";
    let mut request = shell("facts", script);
    request.working_directory = "/made/for/it".to_owned();
    let got = lines(client, request).await;
    let expected = [
        "uid=0(root) gid=0(root) groups=0(root)",
        "/made/for/it",
        "web-1",
        "HOME=/root",
        "HOSTNAME=web-1",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PWD=/made/for/it",
        "SHLVL=1",
        "1024",
        "65535",
        "900",
        "CapInh:\t0000000000000000",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t0",
        "Seccomp:\t2",
        "/dev/null",
        "1",
        "0::/",
        "web-1",
    ];
    assert_eq!(got, expected);
}

#[tokio::test]
async fn vm_users_have_no_more_than_they_are_given() {
    let guest = guest().await;
    let client = &guest.client;
    let mut request = shell(
        "user",
        "id; echo $HOME; echo through > /dev/stdout; grep -E 'CapEff|NoNewPrivs' /proc/self/status; touch /file",
    );
    request.user =
        Some(v1::User { image_user: "app".to_owned(), supplemental_groups: vec![4000], ..v1::User::default() });
    request.security.as_mut().unwrap().no_new_privileges = true;
    request.working_directory = "/srv/app".to_owned();
    let got = lines(client, request).await;
    let expected = [
        "uid=1000(app) gid=1001(app) groups=50(extra),1001(app),4000",
        "/srv/app",
        "through",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "touch: /file: Permission denied",
    ];
    assert_eq!(got, expected);

    // Each of these is forbidden by another part: filter, read-only path, hidden path, root, capability, device.
    let script = "unshare -m true 2>&1; echo 1 2>/dev/null > /proc/sys/net/ipv4/ip_forward || echo sys; \
                  wc -c < /proc/keys; touch /x 2>&1; mount -t tmpfs none /tmp 2>&1 | cut -c1-40; \
                  touch /sys/x 2>&1; touch /sys/fs/cgroup/x 2>&1; echo ok > /dev/shm/x && cat /dev/shm/x";
    let mut request = shell("locked", script);
    request.read_only_root = true;
    request.working_directory = "/missing/in/the/image".to_owned();
    let got = lines(client, request).await;
    let expected = [
        "unshare: unshare(0x20000): Operation not permitted",
        "sys",
        "0",
        "touch: /x: Read-only file system",
        "mount: permission denied (are you root?)",
        "touch: /sys/x: Read-only file system",
        "touch: /sys/fs/cgroup/x: Read-only file system",
        "ok",
    ];
    assert_eq!(got, expected);
    let script = "mknod /sda b 8 0 && head -c 1 /sda 2>&1; mknod /dev/sda b 8 0 && head -c 1 /dev/sda 2>&1";
    let got = lines(client, shell("device", script)).await;
    let denied = got.iter().filter(|line| line.ends_with("Permission denied") || line.ends_with("not permitted"));
    assert_eq!(denied.count(), 2, "{got:?}");
}

#[tokio::test]
async fn vm_limits_are_those_that_were_asked_for() {
    let guest = guest().await;
    let client = &guest.client;
    let files = "cpu.max cpu.weight memory.max memory.oom.group";
    let mut request = shell("limits", &format!("cd /sys/fs/cgroup && cat {files}"));
    request.resources = Some(v1::Resources {
        cpu_request_millis: 1000,
        cpu_limit_millis: 1500,
        memory_limit: 64 << 20,
        oom_score_adj: 0,
    });
    assert_eq!(lines(client, request).await, ["150000 100000", "100", "67108864", "1"]);
}

#[tokio::test]
async fn vm_volumes_are_mounted_whole_and_in_part_but_never_beyond() {
    let guest = guest().await;
    let client = &guest.client;
    let put = |name: &str, kind| v1::PutVolumeRequest { name: name.to_owned(), kind: Some(kind), ..Default::default() };
    let file = v1::VolumeFile { path: "key".to_owned(), data: b"first".to_vec(), mode: 0o644, uid: None };
    let config = |file| Kind::Files(v1::Files { files: vec![file] });
    within(client.put_volume(put("config", config(file.clone())))).await.unwrap();
    within(client.put_volume(put("data", Kind::EmptyDir(v1::EmptyDir::default())))).await.unwrap();
    let mount = |volume: &str, destination: &str, sub_path: &str| v1::Mount {
        volume: volume.to_owned(),
        destination: destination.to_owned(),
        sub_path: sub_path.to_owned(),
        read_only: false,
    };
    let script = "cat /config/key; echo; cat /etc/one; echo; echo x 2>/dev/null > /config/no || echo read-only; \
                  echo kept > /data/file; ls -d /data/sub/deep; touch /sub/made; ls /data/sub/deep; \
                  test -w /etc/hosts && echo hosts";
    let mut request = shell("first", script);
    request.mounts = vec![
        mount("data", "/data", ""),
        mount("data", "/sub", "sub/deep"),
        mount("config", "/config", ""),
        mount("config", "/etc/one", "key"),
    ];
    let expected = ["first", "first", "read-only", "/data/sub/deep", "made", "hosts"];
    assert_eq!(lines(client, request).await, expected);

    let second = v1::VolumeFile { data: b"second".to_vec(), ..file };
    within(client.put_volume(put("config", config(second)))).await.unwrap();
    let mut request = shell("second", "cat /data/file; cat /config/key; echo; ln -s /etc /data/link");
    request.mounts = vec![mount("data", "/data", ""), mount("config", "/config", "")];
    assert_eq!(lines(client, request).await[..2], ["kept", "second"]);

    let mut request = shell("escape", "ls /stolen");
    request.mounts = vec![mount("data", "/stolen", "link/passwd")];
    let error = within(client.create_container(request.clone())).await.unwrap_err();
    assert!(error.to_string().contains("failed to prepare subPath for volumeMount"), "{error}");
    request.mounts = vec![mount("config", "/stolen", "none")];
    assert!(within(client.create_container(request.clone())).await.is_err());
    request.mounts = vec![mount("absent", "/stolen", "")];
    let error = within(client.create_container(request)).await.unwrap_err();
    assert!(error.to_string().contains("volume \"absent\" has not been put"), "{error}");
    start(client, shell("after", "true")).await;
    assert_eq!(ended(client, "after").await.exit_code, 0);
}
