//! How pools stand, as the broker tells it again and again.

use std::process::ExitCode;

use keybroker_proto::v1::{InspectPoolResponse, WatchPoolRequest};
use tokio::{sync::mpsc, task::JoinSet};
use tonic::Status;

use super::{
    super::{
        BrokerArgs, Failure,
        follow::{Follower, may_pass, say},
        print,
    },
    as_json,
};

/// What is told of a pool.
pub(super) enum News {
    /// How it stands.
    Stands(Box<InspectPoolResponse>),
    /// The broker went away.
    Away,
    /// Nothing more will come.
    Over(Failure),
}

/// Follows these pools until it is dropped; news come with the place of their pool.
pub(super) fn follow(broker: &BrokerArgs, pools: &[String]) -> (JoinSet<()>, mpsc::Receiver<(usize, News)>) {
    let (sender, receiver) = mpsc::channel(64);
    let mut tasks = JoinSet::new();
    for (place, pool) in pools.iter().enumerate() {
        let (mut follower, pool, sender) = (Follower::of(broker), pool.clone(), sender.clone());
        tasks.spawn(async move {
            loop {
                let ended = one(&mut follower, &pool, place, &sender).await;
                let Err(failure) = ended else { continue };
                // Nobody listens any more if it cannot be sent.
                let _ = sender.send((place, News::Over(failure))).await;
                return;
            }
        });
    }
    (tasks, receiver)
}

/// One call, to its end.
async fn one(
    follower: &mut Follower,
    pool: &str,
    place: usize,
    sender: &mpsc::Sender<(usize, News)>,
) -> Result<(), Failure> {
    let status = match follower.connect().await {
        Ok(mut admin) => {
            let request = admin.request(WatchPoolRequest { pool: pool.to_owned() });
            match admin.client.watch_pool(request).await {
                Ok(stream) => {
                    let mut stream = stream.into_inner();
                    loop {
                        match stream.message().await {
                            Ok(Some(view)) => {
                                follower.is_there();
                                let _ = sender.send((place, News::Stands(Box::new(view)))).await;
                            }
                            // It ends by itself now and then.
                            Ok(None) => return Ok(()),
                            Err(status) => break status,
                        }
                    }
                }
                Err(status) => status,
            }
        }
        Err(Failure::Failed(why)) => Status::unavailable(why),
        Err(usage) => return Err(usage),
    };
    if !may_pass(&status) {
        return Err(status.into());
    }
    let _ = sender.send((place, News::Away)).await;
    follower.is_away(|| {}).await;
    Ok(())
}

/// Prints a line of JSON for each change.
pub(super) async fn lines(broker: &BrokerArgs, pools: &[String]) -> Result<ExitCode, Failure> {
    let (_tasks, mut news) = follow(broker, pools);
    let mut away = false;
    while let Some((_, news)) = news.recv().await {
        match news {
            News::Stands(view) => {
                if std::mem::take(&mut away) {
                    say(&format!("the broker at {} answers again", broker.broker));
                }
                if !print::passes(&format!("{}\n", as_json(&view)))? {
                    break;
                }
            }
            News::Away if !away => {
                away = true;
                say(&format!("the broker at {} went away; calling it again", broker.broker));
            }
            News::Away => {}
            News::Over(failure) => return Err(failure),
        }
    }
    Ok(ExitCode::SUCCESS)
}
