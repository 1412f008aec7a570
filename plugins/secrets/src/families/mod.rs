//! The rules, one file for each family. Overlapping finds get the name of the earliest rule, so specific rules come first
//! and generic ones last.

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
