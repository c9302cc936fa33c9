//! Why a requirement could not be read.

/// A requirement that nobody could evaluate. The API server refuses most of these when the Pod is created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequirementError {
    /// An operator that Kubernetes does not have at this place.
    #[error("requirement on `{key}` has operator `{operator}`, use In, NotIn, Exists or DoesNotExist")]
    UnknownOperator {
        /// Label under test.
        key: String,
        /// What stands for the operator.
        operator: String,
    },
    /// `Gt` and `Lt` compare with one integer.
    #[error("requirement on `{key}` compares with `{value}`, give exactly one integer")]
    NotAnInteger {
        /// Label under test.
        key: String,
        /// What stands for the integer.
        value: String,
    },
    /// `matchFields` knows one field.
    #[error("matchFields names `{field}`, only metadata.name can be matched")]
    UnknownField {
        /// The field as written.
        field: String,
    },
}

impl RequirementError {
    pub(crate) fn unknown_operator(key: &str, operator: &str) -> Self {
        Self::UnknownOperator { key: key.to_owned(), operator: operator.to_owned() }
    }

    pub(super) fn not_an_integer(key: &str, value: &str) -> Self {
        Self::NotAnInteger { key: key.to_owned(), value: value.to_owned() }
    }

    /// Event reason, condition reason and metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnknownOperator { .. } | Self::NotAnInteger { .. } | Self::UnknownField { .. } => {
                "InvalidPlacementRule"
            }
        }
    }
}
