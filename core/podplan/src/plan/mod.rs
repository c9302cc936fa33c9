//! What the guest agent is asked for one Pod: files, volumes and containers, as the kubelet would make them.
