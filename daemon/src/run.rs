//! Hands a judged start to the driver and tells the service manager when it stands.

use sinew_driver::RunError;

use crate::Start;

/// Runs the node until a signal ends it.
pub(crate) fn run(start: Start) -> Result<(), RunError> {
    let Start { file, identity, secret, helper } = start;
    let start = sinew_driver::Start { file, identity, secret, helper };
    sinew_driver::run(start, || {
        // Without a service manager there is nobody to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    })
}
