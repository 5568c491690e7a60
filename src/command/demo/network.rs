//! A loopback issuer and validator app for the demo: as strict as it takes to show the path.

use std::io;
use std::sync::Arc;

use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The audience that the demo's validator wants.
pub(super) const AUDIENCE: &str = "https://validator.demo.example";

/// Both services on one port.
pub(super) struct Network {
    pub(super) issuer: String,
    pub(super) endpoint: String,
}

struct Service {
    dump: Vec<u8>,
    issuer: String,
    client_secret: String,
    signing_secret: String,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    aud: String,
    exp: i64,
}

#[derive(Deserialize)]
struct TokenRequest {
    grant_type: String,
    #[serde(default)]
    audience: String,
}

impl Network {
    pub(super) async fn start(dump: Vec<u8>, client_secret: String) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let issuer = format!("http://{address}/issuer");
        let service = Arc::new(Service { dump, issuer: issuer.clone(), client_secret, signing_secret: random() });
        let router = axum::Router::new()
            .route("/issuer/.well-known/openid-configuration", get(discovery))
            .route("/issuer/token", post(token))
            .route("/api/validator/readyz", get(async || StatusCode::OK))
            .route("/api/validator/v0/admin/participant/identities", get(identities))
            .with_state(service);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { issuer, endpoint: format!("http://{address}/api/validator") })
    }
}

async fn discovery(State(service): State<Arc<Service>>) -> Json<serde_json::Value> {
    let issuer = &service.issuer;
    Json(json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/token"),
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    }))
}

async fn token(State(service): State<Arc<Service>>, headers: HeaderMap, Form(request): Form<TokenRequest>) -> Response {
    let expected = format!("Basic {}", STANDARD.encode(format!("idkeep:{}", service.client_secret)));
    let is_client = headers.get(header::AUTHORIZATION).is_some_and(|value| *value == *expected);
    if !is_client || request.grant_type != "client_credentials" || request.audience != AUDIENCE {
        return (StatusCode::UNAUTHORIZED, Json(json!({"error": "invalid_client"}))).into_response();
    }
    let claims =
        Claims { sub: "idkeep@clients".into(), aud: AUDIENCE.into(), exp: jiff::Timestamp::now().as_second() + 300 };
    let key = EncodingKey::from_secret(service.signing_secret.as_bytes());
    match jsonwebtoken::encode(&Header::default(), &claims, &key) {
        Ok(token) => Json(json!({"access_token": token, "token_type": "Bearer", "expires_in": 300})).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn identities(State(service): State<Arc<Service>>, headers: HeaderMap) -> Response {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&[AUDIENCE]);
    let key = DecodingKey::from_secret(service.signing_secret.as_bytes());
    match jsonwebtoken::decode::<Claims>(token, &key, &validation) {
        Ok(_) => ([(header::CONTENT_TYPE, "application/json")], service.dump.clone()).into_response(),
        Err(_) => StatusCode::UNAUTHORIZED.into_response(),
    }
}

/// A random text for a secret of the demo.
pub(super) fn random() -> String {
    let mut bytes = [0_u8; 24];
    // Without random numbers nothing else in the demo works either.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    base16ct::lower::encode_string(&bytes)
}
