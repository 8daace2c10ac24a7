/// Why a body, or the rest of one, was not read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}{}", at(.offset))]
pub struct DecodeError {
    pub kind: DecodeErrorKind,
    /// What is wrong and what would be right.
    pub message: String,
    /// Byte in the (decompressed) body where reading stopped; `None` when the body was not looked at.
    pub offset: Option<usize>,
    /// Samples handed to the sink before: they count, the rest of the body does not.
    pub taken: u64,
}

/// What the sender can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// The bytes are not what they are said to be: sending them again is of no use.
    Malformed,
    /// A bound was passed: send less at a time.
    TooLarge,
    /// An encoding, content type or parameter that is not known here.
    Unsupported,
}

fn at(offset: &Option<usize>) -> String {
    offset.map(|o| format!(" (at byte {o})")).unwrap_or_default()
}

impl DecodeError {
    pub(crate) fn malformed(offset: usize, message: impl Into<String>) -> Self {
        DecodeError {
            kind: DecodeErrorKind::Malformed,
            message: message.into(),
            offset: Some(offset),
            taken: 0,
        }
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        DecodeError {
            kind: DecodeErrorKind::TooLarge,
            message: message.into(),
            offset: None,
            taken: 0,
        }
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        DecodeError {
            kind: DecodeErrorKind::Unsupported,
            message: message.into(),
            offset: None,
            taken: 0,
        }
    }

    pub(crate) fn after(mut self, taken: u64) -> Self {
        self.taken = taken;
        self
    }
}

/// At most 80 characters of hostile bytes, fit for an error text.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(320)]);
    if text.chars().count() > 80 || bytes.len() > 320 {
        text.chars().take(80).chain(['…']).collect()
    } else {
        text.into_owned()
    }
}
