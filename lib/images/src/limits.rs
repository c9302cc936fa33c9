//! How large an image may be. Registries and archives are foreign: everything read from them is bounded.

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Limits of one image. The defaults are far above what people build, and below what hurts a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a manifest or an index.
    pub manifest: u64,
    /// Bytes of an image's config.
    pub config: u64,
    /// Bytes of a token answer or of an error's body.
    pub answer: u64,
    /// Layers of an image.
    pub layers: usize,
    /// Bytes of all layers as they are stored.
    pub compressed: u64,
    /// Bytes of all layers unpacked.
    pub uncompressed: u64,
    /// Entries of all layers.
    pub entries: u64,
    /// Bytes of a path in a layer.
    pub path: usize,
    /// Folders within each other.
    pub depth: usize,
    /// Bytes of the extended header of one entry, which holds long names and extended attributes.
    pub extended_header: u64,
    /// Bytes that stay free on the disk whatever is pulled.
    pub keep_free: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest: 4 * MIB,
            config: 8 * MIB,
            answer: MIB,
            layers: 256,
            compressed: 40 * GIB,
            uncompressed: 100 * GIB,
            entries: 4_000_000,
            path: 4000,
            depth: 120,
            extended_header: MIB,
            keep_free: 256 * MIB,
        }
    }
}
