//! Names and identifiers as distinct types, so that a host's name cannot be passed where a subnet's is meant.

/// Defines one string newtype.
macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Takes the text as it is; objects from the API server carry names that it has already validated.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text of the identifier.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
    };
}

string_id!(
    /// `metadata.uid` of a Pod: stays the same over its life and is never given to another.
    PodUid
);
string_id!(
    /// `metadata.name` of a `FargateProfile`.
    ProfileName
);
string_id!(
    /// `metadata.name` of a `Host`.
    HostName
);
string_id!(
    /// `metadata.name` of a `Subnet`.
    SubnetName
);
string_id!(
    /// A failure domain, the value of `topology.kubernetes.io/zone`.
    Zone
);
