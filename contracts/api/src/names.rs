//! Labels, annotations, taints and other literal names that users, tools and the cluster see.
//!
//! The `eks.amazonaws.com` names are those of AWS Fargate on Amazon EKS, kept so that manifests and tools that know
//! them work unchanged.

/// Pod label: the profile that a Pod runs under; set by a user, the profile that he chooses.
pub const PROFILE_LABEL: &str = "eks.amazonaws.com/fargate-profile";
/// Node label and taint key, and Pod annotation: what kind of compute.
pub const COMPUTE_TYPE: &str = "eks.amazonaws.com/compute-type";
/// Value of [`COMPUTE_TYPE`] on nodes that are microVMs.
pub const COMPUTE_TYPE_FARGATE: &str = "fargate";
/// Value of the Pod annotation [`COMPUTE_TYPE`] that keeps a Pod off Fargate.
pub const COMPUTE_TYPE_EC2: &str = "ec2";
/// Name of our scheduler in `spec.schedulerName` and as the source of its events.
pub const SCHEDULER_NAME: &str = "fargate-scheduler";
/// Priority class that every Pod of a profile gets.
pub const PRIORITY_CLASS: &str = "system-node-critical";
/// Value of [`PRIORITY_CLASS`].
pub const PRIORITY: i32 = 2_000_001_000;
/// Pod annotation: the size of its microVM, such as `0.25vCPU 0.5GB`.
pub const CAPACITY_PROVISIONED: &str = "CapacityProvisioned";
/// Well-known zone label of nodes.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// Pod and Node label: the machine that runs the microVM.
pub const HOST_LABEL: &str = "monopod.dev/host";
/// The condition of a Host whose machine is short of memory.
pub const MEMORY_PRESSURE: &str = "MemoryPressure";
/// The condition of a Host whose machine is short of disk.
pub const DISK_PRESSURE: &str = "DiskPressure";
/// What the types of a Pod's conditions begin with that say when a stage of its start was done.
pub const STAGE_CONDITION_PREFIX: &str = "start.monopod.dev/";
/// Node annotation: the microVM that the Node stands for, as JSON; see [`Microvm`](crate::Microvm).
pub const MICROVM_ANNOTATION: &str = "monopod.dev/microvm";
/// `DaemonSet` annotation: `true` leaves its Pods' affinity as it is, so that it may make Pods for nodes of microVMs.
pub const DAEMON_SET_ON_FARGATE: &str = "monopod.dev/daemonset-on-fargate";
/// Namespace of what belongs to Monopod itself.
pub const SYSTEM_NAMESPACE: &str = "monopod-system";
/// Namespace of the Leases that are the heartbeats of Hosts; hosts may write nothing else by their own name.
pub const HEARTBEAT_NAMESPACE: &str = "monopod-hosts";
/// What the user names of hosts start with; the name of the Host follows.
pub const HOST_USER_PREFIX: &str = "monopod:host:";
/// The group of all hosts.
pub const HOST_GROUP: &str = "monopod:hosts";
/// What the names of our nodes start with.
pub const NODE_NAME_PREFIX: &str = "fargate-";
/// Preemption policy of [`PRIORITY_CLASS`]; the API server refuses a Pod whose policy differs from that of its class.
pub const PREEMPTION_POLICY: &str = "PreemptLowerPriority";

/// `ServiceAccount` annotation: the IAM role that its Pods assume (IAM roles for service accounts, IRSA).
pub const ROLE_ARN: &str = "eks.amazonaws.com/role-arn";
/// `ServiceAccount` annotation: the audience of the token; [`DEFAULT_AUDIENCE`] when absent.
pub const AUDIENCE: &str = "eks.amazonaws.com/audience";
/// Audience of the token when the `ServiceAccount` names none.
pub const DEFAULT_AUDIENCE: &str = "sts.amazonaws.com";
/// `ServiceAccount` annotation: `true` or `false`, whether credentials come from the region's own STS endpoint.
pub const STS_REGIONAL_ENDPOINTS: &str = "eks.amazonaws.com/sts-regional-endpoints";
/// Annotation of Pod or `ServiceAccount` (the Pod's wins): seconds until the token expires.
pub const TOKEN_EXPIRATION: &str = "eks.amazonaws.com/token-expiration";
/// Pod annotation: comma-separated names of containers that get no identity.
pub const SKIP_CONTAINERS: &str = "eks.amazonaws.com/skip-containers";
/// Name of the projected volume that holds the token.
pub const TOKEN_VOLUME: &str = "aws-iam-token";
/// Where containers find [`TOKEN_VOLUME`].
pub const TOKEN_MOUNT_PATH: &str = "/var/run/secrets/eks.amazonaws.com/serviceaccount";
/// Name of the token's file below [`TOKEN_MOUNT_PATH`].
pub const TOKEN_FILE: &str = "token";
