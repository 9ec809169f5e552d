//! Shapes spelled exactly as the service spells them. No methods: [`crate::map`] fills them in.

pub(crate) mod arm;
pub(crate) mod login;
pub(crate) mod metadata;
pub(crate) mod tunnel;
