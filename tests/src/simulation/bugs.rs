//! Mistakes that are planted on purpose: the simulator is tested by finding each of them.
//!
//! None is in the product. They stand between its cores, in what passes there, or in the thin
//! drivers and sockets of the simulation, where they break what the cores rely on or what they
//! decided: that shows that the reference model, the verifier and the checks of bounds notice.

/// A planted mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Where the network cuts a piece in two, a byte is lost. In the pipe.
    DroppedByte,
    /// A DATA message is not passed on. Behind the relay.
    LostData,
    /// Two DATA messages of a connection change places. Behind the relay.
    SwappedData,
    /// After a reconnect, a DATA message is passed on twice. Behind the relay.
    RepeatedData,
    /// A DATA message is for another connection of its stream. Behind the relay.
    WrongConnection,
    /// A connection's reset is not passed on. Behind the relay.
    LostReset,
    /// A connection's reset goes before the data in front of it. Behind the relay.
    EagerReset,
    /// A CREDIT message is not passed on. Behind the relay.
    LostCredit,
    /// The relay drops a STREAM_RESET that it owes a side whose partner is gone. In its driver.
    LostFarewell,
    /// A source's local end of file is not noticed. In the local socket.
    ForgottenHalfClose,
    /// A local socket that has room again is not told of. In its driver.
    StuckWindow,
    /// A tunnel that was paused is never read again. In the proxy's driver.
    NeverResumed,
    /// A short write to a local socket counts as a whole one. In its driver.
    ShortWrite,
    /// A connection that was cut ends like one that is complete. In the proxy's driver.
    CutAsEnd,
    /// What was received and not read of one link is read as the next one's. In the relay's driver.
    LeftoverBytes,
    /// A replaced peer goes on speaking. In the relay's driver.
    ReplacedSpeaks,
    /// A token that was rotated still opens. In front of the gate.
    OldToken,
    /// What waits for local sockets may be twice what it should. In the proxy's limits.
    BoundOfQueues,
    /// The relay reads although the other side takes nothing. In its driver.
    BoundOfOutput,
    /// A proxy never looks at the time. In its driver.
    NoTimeouts,
    /// What has come and was not read counts as silence. In the proxy's driver.
    HastySilence,
    /// A proxy always looks at the time a little late, so that its pings drift. In its driver.
    LateTimers,
    /// Milliseconds since the machine began are counted in 32 bits. In the proxy's driver.
    ShortClock,
    /// Nobody looks for tunnels that are over. Beside the gate.
    Unswept,
    /// The links of a tunnel that is over stay. In the relay's driver.
    EternalLinks,
    /// A dial that nobody waits for any more is never answered. In the proxy's driver.
    ForgottenDial,
    /// A source that counts its streams beyond 2147483647. In front of the relay.
    EndlessStreams,
}

impl Bug {
    /// Those that a run of steps has to find.
    pub const OF_STEPS: [Self; 21] = [
        Self::DroppedByte,
        Self::LostData,
        Self::SwappedData,
        Self::RepeatedData,
        Self::WrongConnection,
        Self::LostReset,
        Self::EagerReset,
        Self::LostCredit,
        Self::LostFarewell,
        Self::ForgottenHalfClose,
        Self::StuckWindow,
        Self::NeverResumed,
        Self::ShortWrite,
        Self::CutAsEnd,
        Self::LeftoverBytes,
        Self::ReplacedSpeaks,
        Self::OldToken,
        Self::BoundOfQueues,
        Self::BoundOfOutput,
        Self::NoTimeouts,
        Self::HastySilence,
    ];

    /// Those that a run of days has to find: they take time to show.
    pub const OF_DAYS: [Self; 6] = [
        Self::LateTimers,
        Self::ShortClock,
        Self::Unswept,
        Self::EternalLinks,
        Self::ForgottenDial,
        Self::EndlessStreams,
    ];

    /// The one of this name, as `Debug` shows it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::OF_STEPS.into_iter().chain(Self::OF_DAYS);
        all.find(|bug| format!("{bug:?}") == name)
    }
}
