//! Decides whether a run may do something: the policies, and the checks of the host itself.

pub(crate) mod native_policy;
pub(crate) mod policy_request;
pub(crate) mod policy_set;
