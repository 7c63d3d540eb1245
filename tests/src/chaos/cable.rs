//! The cable between the two hosts: every frame between them passes through this program, which can hold it
//! back or drop it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tun_rs::{AsyncDevice, DeviceBuilder, Layer};

/// A cable that is cut drops every frame, so that whoever sends waits in vain: nobody is told.
const CUT: u64 = u64::MAX;
/// How many frames may be under way each way, as in a switch with a full buffer.
const BUFFER: usize = 4096;
/// The largest frame, with room for its headers.
const LARGEST_FRAME: usize = 2048;

/// A running cable. Dropping it unplugs both ends.
#[derive(Debug)]
pub struct Cable {
    delay_micros: Arc<AtomicU64>,
    unplugged: CancellationToken,
}

impl Cable {
    /// Makes two network devices of these names, and a cable between them.
    ///
    /// # Errors
    /// If the system has no TAP devices, or this program may not make them.
    pub fn plug(runtime: &Handle, names: [&str; 2]) -> io::Result<Self> {
        let _inside = runtime.enter();
        let [left, right] = names.map(|name| {
            let built = DeviceBuilder::new().name(name).layer(Layer::L2).enable(false).build_async();
            built.map(Arc::new).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("no network device can be made ({error}); run as root, with /dev/net/tun"),
                )
            })
        });
        let (left, right) = (left?, right?);
        let cable = Self { delay_micros: Arc::default(), unplugged: CancellationToken::new() };
        cable.carry(runtime, left.clone(), right.clone());
        cable.carry(runtime, right, left);
        Ok(cable)
    }

    /// Drops every frame from now on.
    pub fn cut(&self) {
        self.delay_micros.store(CUT, Ordering::Relaxed);
    }

    /// Lets frames through again, without delay.
    pub fn mend(&self) {
        self.delay(Duration::ZERO);
    }

    /// Holds every frame back this long, each way.
    pub fn delay(&self, by: Duration) {
        self.delay_micros.store(by.as_micros().try_into().unwrap_or(CUT - 1), Ordering::Relaxed);
    }

    fn carry(&self, runtime: &Handle, from: Arc<AsyncDevice>, to: Arc<AsyncDevice>) {
        let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(BUFFER);
        let (delay, unplugged) = (self.delay_micros.clone(), self.unplugged.clone());
        runtime.spawn(unplugged.clone().run_until_cancelled_owned(async move {
            let mut frame = [0; LARGEST_FRAME];
            loop {
                let Ok(length) = from.recv(&mut frame).await else {
                    // The device is down until it is configured.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                };
                let by = delay.load(Ordering::Relaxed);
                if by != CUT {
                    // What does not fit into the buffer is lost, as on any cable.
                    let due = Instant::now() + Duration::from_micros(by);
                    let _ = sender.try_send((due, frame[..length].to_vec()));
                }
            }
        }));
        let delay = self.delay_micros.clone();
        runtime.spawn(unplugged.run_until_cancelled_owned(async move {
            while let Some((due, frame)) = receiver.recv().await {
                sleep_until(due).await;
                if delay.load(Ordering::Relaxed) != CUT {
                    let _ = to.send(&frame).await;
                }
            }
        }));
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.unplugged.cancel();
    }
}
