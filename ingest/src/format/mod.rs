//! What every format's decoder shares: columns that can be cut back, metadata columns, rejected rows and reasons.

pub(crate) mod column;
pub(crate) mod origin;
pub(crate) mod reason;
pub(crate) mod rejected;
pub(crate) mod scalar;
