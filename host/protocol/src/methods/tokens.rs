//! Tokens of providers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `save_provider_token`
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderTokenParams {
    /// Provider instance.
    pub provider: String,
    /// The token: at most 16 KiB, without control characters. It is stored only in the token store.
    pub token: String,
}

impl std::fmt::Debug for ProviderTokenParams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderTokenParams").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// `clear_provider_token`, `has_provider_token`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderParams {
    /// Provider instance.
    pub provider: String,
}

/// `save_provider_token`, `clear_provider_token`, `has_provider_token`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenState {
    /// Whether the provider has a token that its runs can get.
    pub stored: bool,
    /// The store that contains it, or should: `secret-service`, `keyutils` or `file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// The variable in which runs get it. Missing if the provider does not support tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// Why a token that should exist cannot be read. Runs of the provider fail until it is set or cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
