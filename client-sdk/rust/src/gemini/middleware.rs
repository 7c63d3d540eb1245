//! Leases for clients of `reqwest-middleware`.

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use http::Extensions;
use reqwest::{Request, Response, Url};
use reqwest_middleware::{Error, Middleware, Next};

use super::{
    Gemini,
    forward::Forward,
    sender::{Sender, broken},
    underway::Break,
};

/// Leases a key for each request to Gemini that passes through a client of `reqwest-middleware`, as
/// [`Gemini::execute`] does. Requests to other hosts than that of the base URL pass untouched, and without a key.
///
/// The requests go on through the rest of the chain, once for each try. What retries requests does not belong into the
/// chain, and the client at its end should follow no redirects: a lease is for one request. Where no answer can be
/// given, the error is [`Error::Middleware`] with a [`GeminiError`](super::GeminiError) in it.
///
/// ```no_run
/// # async fn example(gemini: keybroker_client::Gemini) -> Result<(), Box<dyn std::error::Error>> {
/// use keybroker_client::gemini::LeaseMiddleware;
/// use reqwest_middleware::ClientBuilder;
///
/// let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
/// let client = ClientBuilder::new(http).with(LeaseMiddleware::new(gemini)).build();
/// let url = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent";
/// let body = r#"{"contents":[{"parts":[{"text":"Name three rivers."}]}]}"#;
/// let answer = client.post(url).header("content-type", "application/json").body(body).send().await?;
/// println!("{}", answer.text().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LeaseMiddleware {
    gemini: Gemini,
}

impl LeaseMiddleware {
    /// Leases as this client does: with its pool, its deadline, its fallback and so on.
    pub fn new(gemini: Gemini) -> Self {
        Self { gemini }
    }

    fn is_leased_for(&self, url: &Url) -> bool {
        let base = Url::parse(&self.gemini.settings.base_url);
        base.is_ok_and(|base| base.origin() == url.origin())
    }
}

/// The rest of a chain, with the client at its end.
struct Chain<'a> {
    next: Next<'a>,
    extensions: &'a mut Extensions,
}

impl Sender for Chain<'_> {
    fn send(&mut self, request: Request) -> BoxFuture<'_, Result<Response, Break>> {
        let answer = self.next.clone().run(request, self.extensions);
        Box::pin(async move {
            answer.await.map_err(|error| match error {
                Error::Reqwest(error) => broken(error),
                Error::Middleware(error) => Break::reset(format!("{error:#}")),
            })
        })
    }
}

#[async_trait]
impl Middleware for LeaseMiddleware {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        if !self.is_leased_for(request.url()) {
            return next.run(request, extensions).await;
        }
        let forward = Forward::new(&self.gemini.settings, request).map_err(Error::middleware)?;
        forward.run(&mut Chain { next, extensions }).await.map_err(Error::middleware)
    }
}
