//! What the webhook writes into a Pod: scheduler, label, priority, and identity for IRSA.
