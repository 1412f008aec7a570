//! Payment and shops.

use crate::spec::{Spec, token};

pub(super) fn rules() -> Vec<Spec> {
    vec![
        token(
            "stripe-access-token",
            "Stripe secret key",
            r"sk_(?:live|test|prod)_[A-Za-z0-9]{10,}",
            &["sk_live_", "sk_test_", "sk_prod_"],
        )
        .entropy(2.8),
        token(
            "stripe-restricted-key",
            "Stripe restricted key",
            r"rk_(?:live|test|prod)_[A-Za-z0-9]{10,}",
            &["rk_live_", "rk_test_", "rk_prod_"],
        )
        .entropy(2.8),
        token("stripe-webhook-secret", "Stripe webhook secret", r"whsec_[A-Za-z0-9+/]{24,}={0,2}", &["whsec_"])
            .entropy(3.2),
        token(
            "square-access-token",
            "Square token",
            r"(?:EAAA[A-Za-z0-9_\-]{56,64}|sq0[a-z]{3}-[A-Za-z0-9_\-]{22,60}|sq0i[a-z]{2}-[A-Za-z0-9_\-]{22,60})",
            &["eaaa", "sq0"],
        ),
        token(
            "shopify-access-token",
            "Shopify token",
            r"shp(?:at|ca|pa|ss|it|ua|tka)_[A-Fa-f0-9]{32}",
            &["shpat_", "shpca_", "shppa_", "shpss_", "shpit_", "shpua_", "shptka_"],
        ),
        token(
            "flutterwave-secret-key",
            "Flutterwave key",
            r"FLW(?:SECK|PUBK)(?:_TEST)?-[A-Za-z0-9]{12,64}(?:-[A-Za-z0-9]{1,16}){0,2}",
            &["flwseck", "flwpubk"],
        ),
        token(
            "flutterwave-secret-key",
            "Flutterwave encryption key",
            r"FLWSECK_TEST[A-Za-z0-9]{12,32}",
            &["flwseck_test"],
        ),
        token("easypost-api-token", "EasyPost key", r"EZ[AT]K[A-Za-z0-9]{54}", &["ezak", "eztk"]),
        token("shippo-api-token", "Shippo token", r"shippo_(?:live|test)_[a-f0-9]{40}", &["shippo_"]),
        token(
            "square-access-token",
            "Braintree token",
            r"access_token\$(?:production|sandbox)\$[a-z0-9]{16}\$[a-f0-9]{32}",
            &["access_token$"],
        ),
        token(
            "stripe-access-token",
            "Adyen and Razorpay keys",
            r"(?:rzp_(?:live|test)_[A-Za-z0-9]{14,24}|AQE[a-z][A-Za-z0-9+/]{60,}={0,2}-[A-Za-z0-9+/]{30,64}={0,2}-[!-~]{16})",
            &["rzp_live_", "rzp_test_", "aqe"],
        ),
    ]
}
