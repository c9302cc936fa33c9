//! Spares: processes that have loaded a template already and wait for a VM, so that a start needs no new process.
//!
//! There is one for each of the shapes that were used last, up to a number in all. One is made a moment after a VM was
//! restored, when that has got going. A spare belongs to nobody: its record has no name, so a later life of the daemon
//! takes it away.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use monopod_vmm::VmError;

use crate::arguments::{Origin, Shape};
use crate::config::Config;
use crate::place::Places;
use crate::seat::{Purpose, Seat};
use crate::template::Template;

/// How long the VM that was just restored has the machine for itself.
const MOMENT: Duration = Duration::from_millis(300);

/// The spares of one daemon.
#[derive(Debug)]
pub(crate) struct Spares {
    config: Arc<Config>,
    places: Arc<Places>,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    /// The one made last is the last.
    waiting: VecDeque<(Shape, Seat)>,
    /// Those that are being made.
    making: Vec<Shape>,
    closed: bool,
}

impl Spares {
    pub(crate) fn new(config: Arc<Config>, places: Arc<Places>) -> Arc<Self> {
        Arc::new(Self { config, places, shelf: Mutex::default() })
    }

    fn shelf(&self) -> std::sync::MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of this shape, if there is one.
    pub(crate) fn take(&self, shape: Shape) -> Option<Seat> {
        let mut shelf = self.shelf();
        let at = shelf.waiting.iter().position(|(of, _)| *of == shape)?;
        shelf.waiting.remove(at).map(|(_, seat)| seat)
    }

    /// Sees to it that there will be one of this shape soon.
    pub(crate) fn refill(self: &Arc<Self>, shape: Shape, template: Template) {
        {
            let mut shelf = self.shelf();
            let there = shelf.waiting.iter().map(|(of, _)| of).chain(&shelf.making).any(|of| *of == shape);
            if self.config.spares == 0 || shelf.closed || there {
                return;
            }
            shelf.making.push(shape);
        }
        let this = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(MOMENT).await;
            let made = this.make(shape, template).await;
            for superfluous in this.put(shape, made) {
                superfluous.clear().await;
            }
        });
    }

    async fn make(&self, shape: Shape, template: Template) -> Option<Seat> {
        let purpose = Purpose { id: None, shape, origin: Origin::Restore, template: Some(template.folder) };
        let opened = Seat::open(&self.config, &self.places, &purpose);
        let outcome = match opened {
            Ok((seat, entering)) => match load(&seat, entering).await {
                Ok(()) => return Some(seat),
                Err(error) => {
                    seat.clear().await;
                    error
                }
            },
            Err(error) => error,
        };
        let error: &dyn std::error::Error = &outcome;
        tracing::warn!(error, "no spare could be made");
        None
    }

    /// Puts a new one on the shelf; returns those for which there is no room.
    fn put(&self, shape: Shape, made: Option<Seat>) -> Vec<Seat> {
        let mut shelf = self.shelf();
        if let Some(at) = shelf.making.iter().position(|of| *of == shape) {
            shelf.making.remove(at);
        }
        shelf.waiting.extend(made.map(|seat| (shape, seat)));
        let room = if shelf.closed { 0 } else { self.config.spares };
        let too_many = shelf.waiting.len().saturating_sub(room);
        shelf.waiting.drain(..too_many).map(|(_, seat)| seat).collect()
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.shelf().waiting.len()
    }

    /// Takes all away, and makes no more.
    pub(crate) async fn close(&self) {
        let waiting = {
            let mut shelf = self.shelf();
            shelf.closed = true;
            std::mem::take(&mut shelf.waiting)
        };
        for (_, seat) in waiting {
            seat.clear().await;
        }
    }
}

async fn load(seat: &Seat, entering: crate::seat::Entering) -> Result<(), VmError> {
    seat.enter(entering).await?;
    seat.control().await?;
    seat.load().await
}
