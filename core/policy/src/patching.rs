//! Which Pods run an outdated guest, and when each is told, evicted, tried again and deleted.
