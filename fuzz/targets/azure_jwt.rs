//! Bearer tokens of the Azure dialect before their signature is looked at: what they say of themselves, of outside
//! issuers and of our own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ravelin_azure::proto::jwt;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let claimed = jwt::claimed(&text);
    if let Ok(claimed) = &claimed {
        assert!(text.len() <= jwt::OUTSIDE_BYTES_MAX);
        assert_eq!(text.bytes().filter(|byte| *byte == b'.').count(), 2);
        // What is said in the first two parts does not depend on the third, as long as there is one.
        let (signed, _) = text.rsplit_once('.').expect("two dots");
        assert_eq!(jwt::claimed(&format!("{signed}.AAAA")).as_ref(), Ok(claimed));
        // Nobody is asked for keys by a token that carries no signature.
        assert!(jwt::claimed(&format!("{signed}.")).is_err());
        assert!(claimed.issuer.len() + claimed.algorithm.len() <= text.len());
    }
    if let Ok(kid) = jwt::inspect(&text) {
        assert!(text.len() <= jwt::TOKEN_BYTES_MAX);
        // One of ours names the one algorithm; what else it says has to be JSON only for outside issuers.
        if let Ok(claimed) = claimed {
            assert_eq!((claimed.algorithm.as_str(), claimed.kid), ("ES256", kid));
        }
    }
});
