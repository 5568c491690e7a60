//! Synthetic RSA keys: made once for these tests, worth nothing, never used anywhere else.
//!
//! Making one takes up to a second, so they are written down; every other key is made when it is needed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// PKCS #8 of a key, from its base64.
pub fn der(key: &str) -> Vec<u8> {
    STANDARD.decode(key).unwrap()
}

/// The same as a PEM file's text.
pub fn pem(key: &str) -> String {
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for line in key.as_bytes().chunks(64) {
        pem.push_str(str::from_utf8(line).unwrap());
        pem.push('\n');
    }
    pem + "-----END PRIVATE KEY-----\n"
}

/// Signs the access tokens of [`super::issuer::Issuer`], and Vault's and Kubernetes' JWTs.
pub const SYNTHETIC_ISSUER: &str = "\
    MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQC9LqeewGyY30exbp+tHnPT0vRl/umRzQ5mKvQ89yZ1wdWr\
    sDuvW2n/mNO2p9pFtvZctjaU4xVYsZljXESvb6KAorv9Vzft1jp0DAtHdzplLAZNFjecgsnhAYeNh6mNanXGPi/ajfM54AvR\
    4hw2IQ1J8UuoV6yBFrGGwsgmKbGsfzsa/0ZzdT6hyjr9AKnqsjb4vxGpb2Zu1DAz3tGdjjnv5/peWDy1T8C9yzftqkAU1DRA\
    pYb4b6TYzTrDZfaAwWWWj2cM4HDQ2buB63zw5lE6XMrb4ZWMRfRZ0wJp5mlqIZzoVqVUO/z1AND5rYnMnfNUqtdT3D79P9zp\
    7sq3eOCBAgMBAAECggEAEPApLlfMsVhGbz64GbQxCy1nV+19pKH/MMsWQJIhVahD9QILqfztjea1R/SZ4KWLw8vFscluKxmF\
    ogWMGcgNPOa1Ha7uMUN9ys+cP+sPJalOLB853e/A2v470IJtvh1iy5vcRX1xokQq0sEjpP4LFkx+KWWmKo2pWec9K9uOTqMS\
    /gPdYDiOOcGf/qglF8EbHm8ZLVPe6UwwgaWxeKXyYAgcBxgasUL4Dg80SoSpNVk/ahCVTkaO+bIlsgpm0mRdvyN1iuRGH1JR\
    HoQei4aELXIyM0nGq/tq69csxtpW13A6nCiMi2IMGVU5gL7uxMFjzUnZ9ks1jAj4UgODLon1lQKBgQDz76uxxTkBVxSYPOfz\
    0bR5conL/Nr5zUKNPvn1yNhir4jPi7FecyJGH+Zjq+jCEwsQ9Tor8LGyIgSXTMB7iyygq038mbaxZGUo0MruyLHq57Nv4jPk\
    X2FvPYWuztnJUPIqDHbaKxQgvs/v3gImeFXH6BaD1Gm5cnYixEpCJjedvQKBgQDGicbwVDussar9ihx+/90Orpv9e8HzcjeF\
    GaRhvnak6o43wruOrOhCf6XsczBUuShKZ5eqcJ6UTVnAQsdt26WU9dklrSRnFURP0Sad8bXTO1CkSE8CbsdFenKfqNSvdxpl\
    WZUMqSVwitDT7wIAHwQH1mSmu/wtCA4WjXEWUEOwFQKBgFtOo/LXwt24jbHqYlxGa4pmECQ10nVcmoOqRf/1HOHbmJcvT8Xt\
    zK9481DtoSM745GGaS7XWnw19Yf4p7fWwW6mkHtzwgmmbaMYfE1i/A3UirrfbdMWzK7J1Yc4UBbl4K9SmQ5Sv6b+JXFApYdm\
    1Z0NR5gy4xwSNxwOY0ldasX1AoGACSSLHsIiRV+hKi/UBB0wRt7PnCq40ccuu1hk84Nb31hV2EeFb5qSz40lTPA5B43HRzXi\
    DB1HkDjHq0zn9i0pQOTZbRy+EmkuTiapiph48RNIMWiLCuejEZYD9UpHERWBB63KaVzYtogN+dSF2Q+Ule/PjsYVZNV8IJm+\
    3XIwy8kCgYBKwjWu5zOUcbKoiImbwJf3Wdbbq/+84MB6V7YOULdVa7+CFj/oJkSCEDFU5+qAx038qgNXT2OA5Yr4iFsURbP7\
    aonfQAg2OpWEbL0aue4WOvhAckfZZB1NuMievNy5sJXjp8eGHobdr/dilYX8eLhIM5hq4yRatrGcbJF6aCEIew==\
    ";

/// A client's key for `private_key_jwt`.
pub const SYNTHETIC_CLIENT: &str = "\
    MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQDMidISNGeW8FIaMTKBceJoEz3ntdH7jAmxs5ncLX+SLZ8f\
    Msf8GerhWjeNdp8khHzLSpPUpQk9ZhSsZxdRWy6ZToi88XKnO+dRWMD58N4WWlypDZLAWyCHJBbtiDlc6VSU/zMoe29jayMO\
    eAwyT9qhPNDqnq/fEgfR3PCtXvTBHNLWeXirYB1rLg9LFSH++XIbBU0Pjfv9bItdQ9mnUToBAuLIA3a+3So9MzfQh/m/NG2Y\
    VJN2sNuPOnRa3lCKWYXgfKerKzuFaI8xDCNFlzt+hs5IVHTCVZlVFTzlsXNBwRr0ysPDp/orl4ab04p7DF7f+WA/nqQCb5G5\
    RrjmmtE1AgMBAAECggEAB1OSekN1SHNQRY7ok7lsFjVGPOQG4v9Ho51e0AOzM529uuTbQ/z7rFnKbp9GoQy72Z5QwEevFotv\
    ByPkMm5VM3mcLURqynG7Xe8TboCBvAQ9mHKbhJdfCWgyCA0enOTgujuP7g3J1iJSzaRgL3cryiW/CABqJU/khtBmsJcbpkUd\
    JZf6H2rN6uMYxVURDvtwt5Ao7XVqouSrHUTFqD/6/BUFpgYe5xGHjZSLf8quTmoivIWj0ncn/c8lvXGgveRt5YvASteeB08z\
    A6JwDAPVqzeIjHHLrdzp0NgMRg9sdadzAtjjsOAJL28Qw1UNnrJgcusewrRhaxxh8AMbWhVPmwKBgQDlOAnx9r/Qvy09gtd7\
    iuFx6JXHMYxQ6ZGblje2weKlis8a7fCrCF7aEZyFxi3gapr6QwD7Gs4OiyVBcFHEuakHmpItxwoDSBg03qjjP3hQshX1kJxS\
    9Wa9igmn8s5o6olGBdMvUYQACDv5KMgc+KMyJFQsE1EluTlVsslTNDOQ6wKBgQDkb5WP0q2RPq1ErSi5XmR6qYi3CW0g+9Sc\
    XAZrTfGGqOkp8HRL4hExdcm5JYpz8UJbG0UNvfsR1OcQgBLuxyDy9i7CrFwDTXu4Zb/stpSCigGHo8eanPCjcIv6WwKb3MMu\
    tKKRzLz4gXE7ggE8kn8UDhTMl7QnC5CGPzEvQlWeXwKBgQCj6aPq/ImEbAGc+ADBnrnCrBDXRc5SWgQ+33ft384ElTOuzTIK\
    DE1P4cItQ1+xGGrExb9g0XVCnyxAFGLUq/N8tYMM60V0vUxaGlNpVgzin8bmOMgg5s3WgmyPRilmizko8qdnMgKTx0+jyA75\
    8K86/xGWByZDNKYUa2pebnjliwKBgGpYgDo6jE8n7KYiLulNRl3MezcrDkDivDImrV5bJOvZyuKZbKq/Dd4GxeiJz5D2ajvb\
    0CP7o9zDTubhmO7MiUxSy6YZc6Sd99D6nYTn4u96rAeneY9DLMwJ40CkCezhs4QU1/IkbH0MVdisR0MZuEtv2sL8hQQAYEH/\
    PTiRGyblAoGBAI5Uv+iP2ptIxcekETxj5tbnUO4YT4f44QIJXovLRh3PuP+Za2KkERHHd1+cVJcGROn+PzgXvyMn/HBG91qE\
    7ghPsnizSbzj1uWxFm5S3fQgZ4J5WAQGY6ruovALzovrtqhqI11gQwXFRKBMO8iQiCfsjwcTBWWQJSvhFtYvZDa6\
    ";

/// The RSA-2048 encryption key of generated identities.
pub const SYNTHETIC_ENCRYPTION: &str = "\
    MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQCc6XwHkIzCk6Mx+GqCXaCdJh63S/Qsci/vI7nSUckkpaJh\
    nT3ZlzuDkx/93RffLgm0F61Dbg4KwY8ReKJrAOlBJ2nEAtx3U/3vRYBeaKSdMTGTBAsLVnhexzxtDKig9/P030Il3m2fSp6B\
    rHXNufQRTOt50KM28o/8UprEmHzbiIq0LvkNTdCz0uJRVlvMt1pGgZMwjikILBP67+sHPe0YNzEtJ9uV+7QF/li5sJJp77Jw\
    te1F5OE/YVujwtrBhUDmkRcj7xifuSB8m6pR0OuN/k4WE1Ka5ODSpLvsLbumKwgW7dD1hDFUr4IEQFsglY+wWHOYrTq3bjWh\
    c3LmAGvnAgMBAAECggEABArt86HxRngYTcrJL7eq0jGvu+g8j8KXYpFokbciuAt+bgZnmAoR8fdh7R/7o/fjLx0nDSQyP2uy\
    PHB/usMIv3F9A5xRQs/KrJX9UzFeAGDKlq+Ve0LMkiCO+X5If/Eze10fLquW5nI9ODkRxe2jEKkLLhXGhr1kIUudijAlk2Bc\
    X6elG53CJqE6kUURO+AtlTV+Q1OJi99dRhG5AXht0ypYK0+70KsOcAyQMKmK63ZjU0PsNL9FVSoDH5zDbsWBvdeKF3WS4EK0\
    R8KW58eMr9IlJzR1T1jBWf2S9GYIHEN4jMQ3CkRcLEW50xPjyMEjMBXxzBt3Bwms6QijimQPbQKBgQDSJjnUkwh5PpvIYMIC\
    g36356lnRqVpEbCQF+Ufaq+LUskqWCe/l6DFxmSSLlFwO7nOLckIeAUmhSiCYN7yUK2fJKSJMf0ngTs0k1xxXqaPgLCFn7YW\
    DLgoA3CBGHLTwt3mw+ENGcVvAm5Oi/i2CMeD6sXV4VKMnvrhlwSOpU8DIwKBgQC/JbhhnTz2Xbu7yauLjf3Qem02U51D9NQJ\
    FvhwT4vV5KL3CmIbx/H/cMybEqbVnV9j5aUvS/HCZM+pLkm1uH0xNQg77BU3kaFkmeWX9LA9XquPZwjJDiB8qEAjyTHr3GP5\
    8dNBxsMDa1y0S6xC+hm1xdsa8QDnex7PudfMENfybQKBgFfdBabcRtmylJ2l3tgANJYdtNVqUzRn4gONCg4lo/nDhjo/G3de\
    pSirt1brKL+dKSWMPRZeYADoAbTpXa3Aj6cPQf/et7KxtJhZ2HfKFCfBrYxg51e2v7RzI7HGEBR70B1w3oKEuOieApKysS0i\
    5JBCM68mA0aqHcj+RDiD41IzAoGBAK5NxU8uRVMbsn/RrR67QoKDwWdS5Av+DASl77Lqtsc7kOfZjhFrSN/4inu2jHAq67t6\
    xCDXDgSITV0nGowdSfw/Md0CsW5U3GmSdO0WckfkNmm0OSyuNy21d5eqdl1wQbLAtDY8+8P4eTbn8pO44Q0C+YQd1QdBHJ2s\
    CH7LtUAZAoGAZBi8TbcUIXYEW4d+n2NpDoABzSf4naNPIgpHrMCXIXzNRwe0fUJ7ghrvIn9Y7veSUU3HA/ZbJAGRX/kMmrvI\
    fkb5v2y969gkkYlm33rge/yErk4E8bbdL2BW3hx/rFg+6hvtHD+wmp467O8Ney/vGBOdhJY3+ay5RxrsOAIfRDk=\
    ";
