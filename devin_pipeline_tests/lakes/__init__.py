"""Small lakes that earlier versions of the code wrote, with items of the emulator."""
