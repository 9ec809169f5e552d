//! The JSON of the data channel's handshake, as a stranger at either end may send it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ravelin_aws::proto::channel;
use ravelin_aws::wire::data_channel as wire;

fuzz_target!(|data: &[u8]| {
    if let Ok(opening) = channel::opening(data) {
        assert_eq!(channel::opening(&channel::encode(&opening)), Ok(opening));
    }
    if let Ok(request) = channel::handshake_request(data) {
        for action in &request.requested_client_actions {
            if let Ok(session) = serde_json::from_value::<wire::SessionTypeRequest>(action.action_parameters.clone()) {
                let _port = serde_json::from_value::<wire::PortProperties>(session.properties);
            }
        }
        assert!(channel::handshake_request(&channel::encode(&request)).is_ok());
    }
    if let Ok(response) = channel::handshake_response(data) {
        assert!(channel::handshake_response(&channel::encode(&response)).is_ok());
    }
    if let Ok(complete) = channel::handshake_complete(data) {
        assert_eq!(channel::handshake_complete(&channel::encode(&complete)), Ok(complete));
    }
});
