//! The rules, a file for each family. Where finds overlap the earlier rule gives the name, so the ones that know most
//! come first and the generic ones last.

mod chat;
mod cloud;
mod generic;
mod hosts;
mod infrastructure;
mod keys;
mod models;
mod observability;
mod payment;
mod registries;
mod stores;
mod web;

use crate::spec::Spec;

/// Every rule, in order of precedence.
pub(crate) fn all() -> Vec<Spec> {
    [
        keys::rules(),
        hosts::rules(),
        models::rules(),
        cloud::rules(),
        registries::rules(),
        chat::rules(),
        payment::rules(),
        infrastructure::rules(),
        observability::rules(),
        web::rules(),
        stores::rules(),
        generic::rules(),
    ]
    .concat()
}
