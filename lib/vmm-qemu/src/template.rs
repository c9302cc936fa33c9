//! Templates: guests that were stopped right after their agent had answered, from which VMs are restored.
//!
//! A template is a folder below `templates` in the state folder, named after all that it depends on: `memory` is the
//! guest's memory, mapped privately by every VM restored from it, `state` that of its devices, `template.json` says what
//! it is. It is made under another name and gets its own when it is complete, so a crash leaves nothing that looks like
//! one. It holds nothing of a tenant.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use monopod_types::MiB;
use monopod_vmm::VmError;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::arguments::{Channels, Inherited, Origin, Program, Shape, arguments};
use crate::config::Config;
use crate::place::Places;
use crate::seat::{Purpose, Seat};

/// How the folder of a template begins that is not complete.
const HALF_MADE: &str = ".making-";

/// The templates of one daemon.
#[derive(Debug)]
pub(crate) struct Templates {
    config: Arc<Config>,
    places: Arc<Places>,
    /// Version of QEMU, which a template belongs to.
    qemu: String,
    /// Held while a template is made, so that it is made once however many VMs wait for it.
    making: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// One that can be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) folder: PathBuf,
}

impl Templates {
    /// Removes what an earlier life had half-made.
    pub(crate) fn new(config: Arc<Config>, places: Arc<Places>, qemu: String) -> Result<Arc<Self>, VmError> {
        let root = root(&config);
        let name = || VmError::host(format!("prepare the templates in {}", root.display()));
        fs::create_dir_all(&root).map_err(name())?;
        for entry in fs::read_dir(&root).map_err(name())? {
            let entry = entry.map_err(name())?;
            if entry.file_name().to_string_lossy().starts_with(HALF_MADE) {
                fs::remove_dir_all(entry.path()).map_err(name())?;
            }
        }
        Ok(Arc::new(Self { config, places, qemu, making: Mutex::default() }))
    }

    /// The template of a shape, made if it is not there. To give up waiting does not stop its making.
    pub(crate) async fn get(self: &Arc<Self>, shape: Shape) -> Result<Template, VmError> {
        let key = self.key(shape)?;
        if let Some(template) = self.find(&key) {
            return Ok(template);
        }
        let this = Arc::clone(self);
        let made = tokio::spawn(async move {
            let turn =
                Arc::clone(this.making.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default());
            let turn = turn.lock().await;
            let template = match this.find(&key) {
                Some(template) => Ok(template),
                None => this.make(&key, shape).await,
            };
            drop(turn);
            template
        });
        made.await.map_err(|_| VmError::NotReady { what: "the making of its template failed".to_owned() })?
    }

    /// Takes away a template that could not be restored.
    pub(crate) fn discard(&self, template: &Template) {
        if let Err(error) = fs::remove_dir_all(&template.folder) {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, folder = %template.folder.display(), "failed to remove a template");
        }
    }

    /// All that a template depends on.
    fn key(&self, shape: Shape) -> Result<String, VmError> {
        let program = Program { qemu: Path::new("qemu"), kernel_parameters: &self.config.guest.kernel_parameters };
        let channels = Channels { control: Inherited(0), agent: Inherited(1), kvm: None };
        let mut hash = Sha256::new();
        hash.update(self.config.guest.fingerprint()?);
        hash.update(&self.qemu);
        for origin in [Origin::MakeTemplate, Origin::Restore] {
            hash.update(arguments(&program, shape, origin, channels).join("\n"));
        }
        let hash = hex::encode(hash.finalize());
        let Shape { accelerator, vcpus, memory: MiB(memory) } = shape;
        Ok(format!("{accelerator}-{vcpus}x{memory}-{}", hash.get(..16).unwrap_or(&hash)))
    }

    fn find(&self, key: &str) -> Option<Template> {
        let folder = root(&self.config).join(key);
        let about = fs::File::options().append(true).open(folder.join("template.json")).ok()?;
        // Its last use, for the choice of which goes first. Not being able to note it does no harm.
        drop(about.set_modified(SystemTime::now()));
        Some(Template { folder })
    }

    async fn make(&self, key: &str, shape: Shape) -> Result<Template, VmError> {
        let started = tokio::time::Instant::now();
        let (half, folder) = (root(&self.config).join(format!("{HALF_MADE}{key}")), root(&self.config).join(key));
        let outcome = self.make_in(&half, shape).await.and_then(|()| {
            fs::rename(&half, &folder).map_err(VmError::host(format!("name the template {}", folder.display())))
        });
        if let Err(error) = outcome {
            drop(fs::remove_dir_all(&half));
            return Err(error);
        }
        tracing::info!(template = key, took = ?started.elapsed(), "a template was made");
        self.collect_garbage(&folder);
        Ok(Template { folder })
    }

    async fn make_in(&self, half: &Path, shape: Shape) -> Result<(), VmError> {
        let name = || VmError::host(format!("make the template {}", half.display()));
        fs::create_dir(half).map_err(name())?;
        fs::set_permissions(half, fs::Permissions::from_mode(0o755)).map_err(name())?;
        let memory = fs::File::create_new(half.join("memory")).map_err(name())?;
        memory.set_len(shape.memory.0 << 20).map_err(name())?;
        fs::File::create_new(half.join("state")).map_err(name())?;
        let template = Some(half.to_path_buf());
        let purpose = Purpose { id: None, shape, origin: Origin::MakeTemplate, template };
        let (seat, entering) = Seat::open(&self.config, &self.places, &purpose)?;
        let outcome = async {
            for file in ["memory", "state"] {
                chown(half.join(file), Some(seat.place.user), Some(seat.place.user)).map_err(name())?;
            }
            seat.enter(entering).await?;
            self.bring_up_and_save(&seat).await
        };
        let outcome = outcome.await;
        seat.clear().await;
        outcome?;
        self.seal(half).map_err(name())
    }

    async fn bring_up_and_save(&self, seat: &Seat) -> Result<(), VmError> {
        let limit = self.config.limits.boot;
        seat.control().await?;
        seat.resume().await?;
        let late = |_| VmError::TimedOut { what: "the boot of the guest".to_owned(), limit };
        let ready = async { self.config.ready.ready(seat.agent().await?).await };
        let ended = async { VmError::NotReady { what: seat.ended().await.to_string() } };
        tokio::select! {
            ready = tokio::time::timeout(limit, ready) => ready.map_err(late)??,
            error = ended => return Err(error),
        }
        seat.command("stop", json!({})).await?;
        seat.save().await
    }

    /// Nobody writes to it any more; every VM may read it.
    fn seal(&self, half: &Path) -> io::Result<()> {
        for file in ["memory", "state"] {
            let path = half.join(file);
            chown(&path, Some(0), Some(0))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o444))?;
        }
        let about = json!({"guest": self.config.guest.version, "qemu": self.qemu});
        fs::write(half.join("template.json"), about.to_string())
    }

    /// Keeps only as many as wanted, those used last. VMs that run have what they need of a removed one open.
    fn collect_garbage(&self, newest: &Path) {
        let entries = fs::read_dir(root(&self.config)).into_iter().flatten().flatten();
        let mut found: Vec<(SystemTime, PathBuf)> = entries
            .map(|entry| entry.path())
            .filter(|path| path != newest)
            .filter_map(|path| Some((fs::metadata(path.join("template.json")).ok()?.modified().ok()?, path)))
            .collect();
        found.sort();
        let others = self.config.keep_templates.saturating_sub(1);
        for (_, folder) in found.iter().take(found.len().saturating_sub(others)) {
            self.discard(&Template { folder: folder.clone() });
        }
    }
}

fn root(config: &Config) -> PathBuf {
    config.state.join("templates")
}
