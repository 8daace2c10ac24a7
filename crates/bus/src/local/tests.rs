#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    AckBeforeSync,
}
