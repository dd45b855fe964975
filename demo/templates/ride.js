// Asks where the driver is, until the ride has begun.
const said = document.querySelector("[data-status]");

async function ask() {
  let again = true;
  try {
    const answer = await fetch(said.dataset.status);
    if (answer.ok) {
      const ride = await answer.json();
      again = ride.status !== "accepted";
      if (!again) said.textContent = `${ride.driver} has set off`;
    } else {
      said.textContent = `We lost sight of your driver: the shop answered ${answer.status}`;
    }
  } catch {
    said.textContent = "We lost sight of your driver: the shop does not answer";
  }
  if (again) setTimeout(ask, 500);
}

ask();
