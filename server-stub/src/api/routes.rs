//! Every path of the admin API with the least role that it needs. None can be added without one.

use axum::Router;
use axum::extract::{Extension, Request};
use axum::handler::Handler;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};

use crate::account::Role;
use crate::caller::Caller;
use crate::error::HubError;
use crate::hub::Hub;
use crate::problem::Problem;

/// The API as it is built up.
pub(super) struct Routes {
    router: Router<Hub>,
    table: Vec<(&'static str, &'static str, Role)>,
}

impl Routes {
    pub(super) fn new() -> Routes {
        Routes { router: Router::new(), table: Vec::new() }
    }

    fn on<H, T>(
        mut self,
        (name, filter): (&'static str, MethodFilter),
        path: &'static str,
        least: Role,
        act: H,
    ) -> Routes
    where
        H: Handler<T, Hub>,
        T: 'static,
    {
        let check = move |Extension(caller): Extension<Caller>, request: Request, next: Next| {
            need(least, caller, request, next)
        };
        self.router = self.router.route(path, on(filter, act).layer(from_fn(check)));
        self.table.push((name, path, least));
        self
    }

    pub(super) fn get<H: Handler<T, Hub>, T: 'static>(self, path: &'static str, least: Role, act: H) -> Routes {
        self.on(("GET", MethodFilter::GET), path, least, act)
    }

    pub(super) fn post<H: Handler<T, Hub>, T: 'static>(self, path: &'static str, least: Role, act: H) -> Routes {
        self.on(("POST", MethodFilter::POST), path, least, act)
    }

    pub(super) fn put<H: Handler<T, Hub>, T: 'static>(self, path: &'static str, least: Role, act: H) -> Routes {
        self.on(("PUT", MethodFilter::PUT), path, least, act)
    }

    pub(super) fn patch<H: Handler<T, Hub>, T: 'static>(self, path: &'static str, least: Role, act: H) -> Routes {
        self.on(("PATCH", MethodFilter::PATCH), path, least, act)
    }

    pub(super) fn delete<H: Handler<T, Hub>, T: 'static>(self, path: &'static str, least: Role, act: H) -> Routes {
        self.on(("DELETE", MethodFilter::DELETE), path, least, act)
    }

    /// The paths as they answer, and the table of what each needs.
    pub(super) fn done(self) -> (Router<Hub>, Vec<(&'static str, &'static str, Role)>) {
        (self.router, self.table)
    }
}

async fn need(least: Role, caller: Caller, request: Request, next: Next) -> Response {
    if caller.role >= least {
        return next.run(request).await;
    }
    tracing::warn!(role = %caller.role, needs = %least, "request refused");
    let told = format!("this needs the role {least}, and yours is {}", caller.role);
    Problem::from(HubError::NotAllowed(told)).into_response()
}
